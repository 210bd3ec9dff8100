"""Networks that return feature maps (features_only), by every class that timm builds them with."""

import copy

import pytest
import timm
import torch
from test_zoo.networks import SIDES, assert_equal, differ, images, make
from timm.layers import get_channel_dim, get_spatial_dim
from torch.utils._pytree import tree_leaves

import fg_plugin
from fg_plugin.generated_model import GENERATOR

# timm rewrites the modules of a network for 'list' and 'dict', which these refuse.
NOT_REWRITTEN = (
    'deit_tiny_distilled_patch16_224',
    'pit_ti_224',
    'test_efficientnet',
    'test_vit',
    'test_vit_relpos',
    'tf_mobilenetv3_small_minimal_100',
    'xcit_nano_12_p16_224',
)
GETTER_ONLY = ('crossvit_tiny_240', 'hrnet_w18_small', 'mvitv2_tiny', 'twins_svt_small')
# The plain network finds no features by hooks, nor runs as a list.
GETTER_AND_FX = ('coat_lite_tiny',)
OUT_INDICES = (0, 2)


def feature_classes(name):
    if name in GETTER_ONLY:
        return ('getter',)
    if name in GETTER_AND_FX:
        return ('getter', 'fx')
    return ('hook', 'getter', 'fx') if name in NOT_REWRITTEN else ('list', 'dict', 'hook', 'getter', 'fx')


FAST_NETWORKS = ('test_resnet', 'test_vit', 'tf_mobilenetv3_small_minimal_100')
CASES = [
    pytest.param(name, cls, marks=() if name in FAST_NETWORKS else pytest.mark.slow)
    for name in SIDES
    for cls in feature_classes(name)
]


@pytest.mark.parametrize(('name', 'feature_cls'), CASES)
def test_each_class(name, feature_cls):
    model = make(name, features_only=True, feature_cls=feature_cls, out_indices=OUT_INDICES)
    x = images(name)
    with torch.no_grad():
        features = model(x)
        alone = [model(image[None]) for image in x]
        with model.conditioned_on(x.flip(0)):
            swapped = model(x)
    assert_equal(features, [torch.cat(pair) for pair in zip(*map(tree_leaves, alone), strict=True)])
    # A graph of torch.fx has the stem's convolution inlined where its class is none of torch's: it stays static.
    assert differ(features, swapped)[feature_cls == 'fx' :] == [True, True][feature_cls == 'fx' :]
    infos = zip(model.feature_info.channels(), model.feature_info.reduction(), strict=True)
    for feature, (channels, reduction) in zip(tree_leaves(features), infos, strict=True):
        if feature.ndim == 3:  # the tokens of a transformer, where a hook finds them
            assert feature.shape[-1] == channels
        else:
            output_fmt = getattr(model, 'output_fmt', 'NCHW')
            assert feature.shape[get_channel_dim(output_fmt)] == channels
            # Some round up, some lose a border.
            assert abs(feature.shape[get_spatial_dim(output_fmt)[0]] - x.shape[-1] / reduction) <= 1


@pytest.mark.parametrize('feature_cls', ['list', 'dict', 'getter'])
@pytest.mark.parametrize('name', ['test_resnet', 'test_convnext'])
def test_what_comes_after_the_last_feature_leaves_no_unused_parameter(name, feature_cls):
    model = make(name, features_only=True, feature_cls=feature_cls, out_indices=(0, 1)).train()
    sum(leaf.mean() for leaf in tree_leaves(model(images(name)))).backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize('feature_cls', ['list', 'hook', 'getter', 'fx'])
def test_values_are_those_of_the_plain_network_at_first(feature_cls):
    models = []
    for name in ('test_resnet', 'fg_test_resnet'):
        torch.manual_seed(0)
        models.append(timm.create_model(name, features_only=True, feature_cls=feature_cls).double().eval())
    x = images('test_resnet')
    assert_equal(models[1](x), models[0](x))
    fg_plugin.revert_(models[1])
    for actual, expected in zip(models[1](x), models[0](x), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize('feature_cls', ['list', 'dict'])
def test_lists_of_stages_do_not_show_the_generator(feature_cls):
    model = make('test_resnet', features_only=True, feature_cls=feature_cls)
    names = list(timm.create_model('test_resnet', features_only=True, feature_cls=feature_cls).keys())
    assert list(model) == list(model.keys()) == [name for name, _ in model.items()] == names
    assert len(model) == len(names) == len(list(model.values()))
    assert any(key.startswith(GENERATOR) for key in model.state_dict())


@pytest.mark.parametrize('options', [dict(), dict(fg_reconstruction_weight=1.0), dict(fg_exclude=['stages.1.*'])])
@pytest.mark.parametrize('index', [0, 1, 3])
def test_pruning_leaves_no_unused_part_of_the_generator(index, options):
    model, x = make('test_convnext', **options), images('test_convnext').clamp(-1, 1)
    expected = model.forward_intermediates(x, indices=[index], intermediates_only=True)
    pruned = copy.deepcopy(model)
    taken = pruned.prune_intermediate_layers([index], prune_norm=True)
    assert_equal(pruned.forward_intermediates(x, indices=taken, intermediates_only=True), expected)
    loss = pruned.train().forward_features(x).mean() + fg_plugin.reconstruction_loss(pruned)
    loss.backward()
    assert not [key for key, parameter in pruned.named_parameters() if parameter.grad is None]
    fg_plugin.revert_(pruned)
    assert pruned.forward_features(x).shape == expected[0].shape


@pytest.mark.parametrize('feature_cls', ['list', 'hook'])
def test_gradient_checkpointing(feature_cls):
    gradients = []
    for checkpointing in (False, True):
        model = make('test_resnet', features_only=True, feature_cls=feature_cls).train()
        model.set_grad_checkpointing(checkpointing)
        batches = [images('test_resnet', seed=seed) for seed in range(2)]
        sum(feature.square().mean() for batch in batches for feature in model(batch)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('feature_cls', ['list', 'dict', 'hook', 'getter', 'fx'])
def test_impossible_indices(feature_cls):
    message = r'out_indices should be in \[-5, 5\) for the 5 feature maps of test_resnet, but got \(0, 9\)'
    with pytest.raises(ValueError, match=message):
        timm.create_model('fg_test_resnet', features_only=True, feature_cls=feature_cls, out_indices=(0, 9))
