"""What timm does with a network: optimizers, averages, saved folders, fusing; and networks from elsewhere."""

import copy
import io
import pickle
from collections import ChainMap

import numpy as np
import pytest
import timm
import torch
import torchvision
from test_zoo.networks import assert_equal, copy_of, images, make, perturb_
from timm.models import group_parameters, save_for_hf
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3, reparameterize_model
from torch import nn

import fg_plugin
from fg_plugin import FilterRepoConv
from fg_plugin.generated_model import GeneratedModel

STATISTICS = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
LAYER_DECAY = ['test_resnet', 'test_convnext', 'test_vit', 'test_byobnet', 'tf_mobilenetv3_small_minimal_100']


def assert_close(actual, expected):
    """Compare in float32, relative to the largest value: the others are what is left of sums of such values."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize('name', LAYER_DECAY)
def test_layer_decay(name):
    converted, host = copy_of(name), timm.create_model(name)
    optimizer = create_optimizer_v2(converted, opt='adamw', lr=1.0, weight_decay=0.05, layer_decay=0.5)
    plain = create_optimizer_v2(host, opt='adamw', lr=1.0, weight_decay=0.05, layer_decay=0.5)
    named = {parameter: key for key, parameter in (*converted.named_parameters(), *host.named_parameters())}

    def settings(optimizer):
        return {
            named[parameter]: (group['lr_scale'], group['weight_decay'])
            for group in optimizer.param_groups
            for parameter in group['params']
        }

    expected, actual = settings(plain), settings(optimizer)
    assert actual.keys() == {key for key, _ in converted.named_parameters()}
    shared = {key: setting for key, setting in actual.items() if key in expected}
    assert {setting[1] for setting in expected.values()} == {0.0, 0.05}
    assert shared == expected


@pytest.mark.parametrize('name', LAYER_DECAY)
def test_parameters_of_a_head_belong_to_the_group_of_their_layer(name):
    model = copy_of(name)
    groups = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    for key, layer in model.named_modules():
        if isinstance(layer, FilterRepoConv):
            members = {groups[f'{key}.{parameter}'] for parameter, _ in layer.named_parameters()}
            assert len(members) == 1, key


def test_no_weight_decay():
    assert make('test_vit').no_weight_decay() == timm.create_model('test_vit').no_weight_decay()


@pytest.mark.parametrize('opt', ['sgd', 'adamw', 'lamb'])
def test_optimizers_update_every_parameter(opt):
    model = copy_of('test_resnet').train()
    before = {key: parameter.clone() for key, parameter in model.named_parameters()}
    optimizer = create_optimizer_v2(model, opt=opt, lr=0.1, weight_decay=0)
    model(images('test_resnet')).square().mean().backward()
    optimizer.step()
    assert not [key for key, parameter in model.named_parameters() if torch.equal(parameter, before[key])]


def test_ema():
    model = copy_of('test_resnet')
    average = ModelEmaV3(model, decay=0.5)
    x = images('test_resnet')
    assert torch.equal(average(x), model(x))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    before = average(x)
    average.update(model)
    for mean, parameter in zip(average.module.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mean, parameter - 0.05, rtol=0, atol=1e-12)
    assert not torch.allclose(average(x), before)
    average.set(model)
    assert torch.equal(average(x), model(x))


def slowly(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize('name', ['repvit_m1', *slowly('fastvit_t8', 'mobileone_s0', 'repghostnet_050')])
def test_reparameterising(name):
    torch.manual_seed(0)
    host = perturb_(timm.create_model(name)).eval()
    x = torch.randn(2, 3, 64, 64)
    fused = reparameterize_model(host)
    expected, host_class, parts = fused(x), type(fused), sum(1 for _ in fused.modules())
    assert parts < sum(1 for _ in host.modules())
    fg_plugin.convert_(fused)
    assert_close(fused(x), expected)
    fg_plugin.convert_(host)
    message = 'cannot (fuse|reparameterize|switch_to_deploy) its convolutions.*before its conversion'
    with pytest.raises(RuntimeError, match=message):
        reparameterize_model(host)
    assert_close(host(x), expected)
    fg_plugin.freeze_(host, x[:1])
    frozen, fused = host(x), reparameterize_model(host)
    assert (type(fused), sum(1 for _ in fused.modules())) == (host_class, parts)
    assert_close(fused(x), frozen)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(fg_rank=3, fg_exclude=['layer4.*']),
        dict(fg_head='full', fg_num_base_filters=4, fg_encoder=[(4, 4), (6, 2)]),
        dict(fg_reconstruction_weight=1.0, in_chans=1, num_classes=5),
    ],
)
@pytest.mark.parametrize('safe', [True, False])
def test_saved_folders(tmp_path, options, safe):
    model, x = make('test_resnet', **options).float(), images('test_resnet').float()
    x = x[:, : options.get('in_chans', 3)]
    save_for_hf(model, tmp_path, safe_serialization=safe)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    assert torch.equal(loaded(x), model(x))
    assert type(loaded) is type(model)
    assert not torch.allclose(timm.create_model(f'local-dir:{tmp_path}').eval()(x), model(x))


def test_a_saved_folder_for_other_classes(tmp_path):
    model, x = make('test_resnet', fg_rank=3).float(), images('test_resnet').float()
    save_for_hf(model, tmp_path)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True, num_classes=7).eval()
    assert torch.equal(loaded.forward_features(x), model.forward_features(x))
    assert loaded(x).shape == (2, 7)
    features = timm.create_model(f'local-dir:{tmp_path}', pretrained=True, num_classes=0).eval()
    assert torch.equal(features(x), model.forward_head(model.forward_features(x), pre_logits=True))


def test_a_saved_folder_of_a_plain_network_that_was_converted(tmp_path):
    model, x = timm.create_model('test_resnet', num_classes=5), images('test_resnet').float()
    fg_plugin.convert_(model, rank=4, exclude=['conv1.*'])
    perturb_(model).eval()
    save_for_hf(model, tmp_path)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    assert torch.equal(loaded(x), model(x))


def test_a_saved_folder_of_options_that_json_does_not_have(tmp_path):
    model, x = timm.create_model('test_resnet', num_classes=5), images('test_resnet').float()
    options = dict(rank=np.int64(4), num_base_filters=np.float64(0.5), include={'layer1.*'}, levels=ChainMap({'*': 1}))
    fg_plugin.convert_(model, **options)
    perturb_(model).eval()
    save_for_hf(model, tmp_path)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    assert torch.equal(loaded(x), model(x))


def test_a_saved_folder_of_a_network_that_was_reverted_or_frozen(tmp_path):
    x = images('test_resnet').float()
    for restore in (fg_plugin.revert_, lambda model: fg_plugin.freeze_(model, x)):
        model = make('test_resnet', fg_rank=3).float()
        restore(model)
        save_for_hf(model, tmp_path)
        loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
        assert not isinstance(loaded, GeneratedModel)
        assert torch.equal(loaded(x), model(x))


def test_features_of_a_saved_folder_are_refused(tmp_path):
    save_for_hf(make('test_resnet').float(), tmp_path)
    with pytest.raises(
        ValueError, match=r'features_only should be used with the weights of test_resnet.*forward_inter'
    ):
        timm.create_model(f'local-dir:{tmp_path}', pretrained=True, features_only=True)


def reload(model):
    """Save and load a whole network, which is a pickle: safe here, because the test wrote it itself."""
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), reload])
@pytest.mark.parametrize('name', ['test_resnet', 'test_nfnet', 'test_vit'])
def test_copies(name, copied):
    model = copy_of(name)
    twin = copied(model)
    assert_equal(twin(images(name)), model(images(name)))
    assert isinstance(twin, type(timm.create_model(name)))
    assert twin.feature_info == model.feature_info
    assert twin.pretrained_cfg == model.pretrained_cfg


def test_converting_twice_and_reverting_what_was_never_converted():
    model = make('test_resnet')
    with pytest.raises(ValueError, match=r'converted already \(FGResNet\): revert_ it first'):
        fg_plugin.convert_(model)
    fg_plugin.revert_(model)
    message = r'should be converted by fg_plugin\.convert_ or created as fg_<name>, but ResNet is not'
    for verb in (fg_plugin.revert_, lambda model: fg_plugin.freeze_(model, images('test_resnet'))):
        with pytest.raises(ValueError, match=message):
            verb(model)


class TestNetworksFromElsewhere:
    @pytest.mark.parametrize(
        'build',
        [
            *slowly(torchvision.models.resnet50),
            torchvision.models.mobilenet_v3_small,
            lambda: nn.Sequential(
                nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.LazyLinear(5)
            ),
        ],
    )
    def test_convert_train_revert(self, build):
        torch.manual_seed(0)
        model = build().double().eval()
        x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        expected, host_class, state = model(x), type(model), copy.deepcopy(model.state_dict())
        fg_plugin.convert_(model, **STATISTICS, input_size=(3, 64, 64))
        assert isinstance(model, host_class)
        torch.testing.assert_close(model(x), expected, rtol=1e-7, atol=1e-9)
        fg_plugin.revert_(model)
        assert type(model) is host_class
        assert torch.equal(model(x), expected)
        fg_plugin.convert_(model, **STATISTICS, input_size=(3, 64, 64))
        model.load_state_dict(state)
        perturb_(model)
        alone = torch.cat([model(image[None]) for image in x])
        torch.testing.assert_close(model(x), alone, rtol=1e-6, atol=1e-8)
        model.train()(x).mean().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    def test_statistics_are_needed(self):
        with pytest.raises(ValueError, match=r'mean and std should be given for ResNet, which has no pretrained_cfg'):
            fg_plugin.convert_(torchvision.models.resnet18())
        with pytest.raises(ValueError, match=r'mean and std should be given together'):
            fg_plugin.convert_(torchvision.models.resnet18(), mean=(0.5, 0.5, 0.5))

    def test_a_network_without_convolution(self):
        with pytest.raises(fg_plugin.NothingMatchedError, match=r'Sequential has no nn\.Conv2d, and so no filters'):
            fg_plugin.convert_(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), **STATISTICS, input_size=(3, 2, 2))
