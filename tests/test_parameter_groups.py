import pytest
import timm
import torch
from test_zoo.networks import copy_of
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

import fg_plugin
from fg_plugin.wrapper import FGBackboneWrapper


def rates(groups, model):
    """Return the learning rates of the heads, the generator and all others: sets, each of one rate if all is well."""
    rate_of = {parameter: group['lr'] for group in groups for parameter in group['params']}
    assert len(rate_of) == sum(len(group['params']) for group in groups) == len(list(model.parameters()))
    parts = {'heads': set(), 'generator': set(), 'others': set()}
    for name, parameter in model.named_parameters():
        part = 'heads' if 'coefficient_head' in name else 'generator' if 'generator' in name else 'others'
        parts[part].add(rate_of[parameter])
    return parts


def test_rates_of_a_converted_network():
    model = copy_of('test_resnet')
    groups = fg_plugin.param_groups(model, 0.5)
    assert rates(groups, model) == {'heads': {5.0}, 'generator': {0.05}, 'others': {0.5}}
    assert not any('weight_decay' in group for group in groups)
    groups = fg_plugin.param_groups(model, 0.5, head_lr=3.0, generator_lr=1.0)
    assert rates(groups, model) == {'heads': {1.5}, 'generator': {0.5}, 'others': {0.5}}


def test_rates_of_a_model_with_a_wrapper():
    autoencoder = dict(type='Autoencoder', in_channels=3, kernel_size=3, encoder=((4, 2), (6, 2)), decoder=None)
    wrapper = FGBackboneWrapper(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)),
        autoencoder,
        dict(type='AEFeatureNeck'),
        image_size=8,
        reconstruction_weight=0.0,
    )
    model = nn.Sequential(wrapper, nn.Linear(4, 2))
    expected = {'heads': {10.0}, 'generator': {0.1}, 'others': {1.0}}
    assert rates(fg_plugin.param_groups(model, 1.0), model) == expected


def test_decay_leaves_out_what_timm_leaves_out():
    model = copy_of('test_vit')
    groups = fg_plugin.param_groups(model, 1.0, weight_decay=0.05)
    decay_of = {parameter: group['weight_decay'] for group in groups for parameter in group['params']}
    expected = create_optimizer_v2(model, 'adamw', lr=1.0, weight_decay=0.05, filter_bias_and_bn=True)
    for group in expected.param_groups:
        for parameter in group['params']:
            assert decay_of[parameter] == group['weight_decay']
    assert {0.0, 0.05} == set(decay_of.values())


@pytest.mark.parametrize(
    'wrap', [lambda model: nn.Sequential(nn.Identity(), model), torch.compile], ids=['nested', 'compiled']
)
def test_decay_leaves_it_out_inside_of_another_module(wrap):
    model = copy_of('test_vit')
    assert decayed(wrap(model), model) == decayed(model, model) > {'patch_embed.proj.weight'}
    assert not {'pos_embed', 'cls_token'} & decayed(wrap(model), model)


def test_decay_leaves_it_out_of_a_wrapped_backbone():
    backbone = timm.create_model('test_vit', num_classes=0, img_size=32)
    autoencoder = dict(type='Autoencoder', in_channels=3, kernel_size=3, encoder=((4, 2), (6, 2)), decoder=None)
    neck = dict(type='AEFeatureNeck')
    wrapper = FGBackboneWrapper(backbone, autoencoder, neck, image_size=32, reconstruction_weight=0.0)
    assert not {'pos_embed', 'cls_token'} & decayed(wrapper, backbone)
    assert 'blocks.0.mlp.fc1.weight' in decayed(wrapper, backbone)


def decayed(whole, part):
    """Return the names in ``part`` of the parameters that decay."""
    groups = fg_plugin.param_groups(whole, 1.0, weight_decay=0.05)
    held = {parameter for group in groups if group['weight_decay'] for parameter in group['params']}
    return {name for name, parameter in part.named_parameters() if parameter in held}


def test_frozen_parameters_are_in_no_group():
    model = copy_of('test_resnet')
    model.conv1.requires_grad_(False)
    held = {parameter for group in fg_plugin.param_groups(model, 1.0) for parameter in group['params']}
    assert held == {parameter for parameter in model.parameters() if parameter.requires_grad}


def test_schedules_of_timm_keep_the_multiples():
    model = copy_of('test_resnet')
    optimizer = create_optimizer_v2(fg_plugin.param_groups(model, 1.0), 'adamw', lr=1.0)
    CosineLRScheduler(optimizer, t_initial=10).step(5)
    assert rates(optimizer.param_groups, model) == {'heads': {5.0}, 'generator': {0.05}, 'others': {0.5}}


def test_a_plain_network_is_refused():
    with pytest.raises(ValueError, match='should have generated filters, but got a ResNet without any'):
        fg_plugin.param_groups(timm.create_model('test_resnet'), 1.0)
