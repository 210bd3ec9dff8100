"""Arguments of ``timm.create_model('fg_<name>')``: the host's and those of the conversion."""

import copy

import pytest
import timm
import torch
from test_zoo.networks import assert_equal, images, perturb_

import fg_plugin
from fg_plugin import FilterRepoConv
from fg_plugin.layers.coefficient_heads import FullHead
from fg_plugin.layers.filter_repo_conv import HEADS


def create(name, **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, **kwargs).double().eval()


def layers(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, FilterRepoConv)}


@pytest.mark.parametrize('name', ['test_resnet', 'test_convnext', 'tf_mobilenetv3_small_minimal_100', 'test_nfnet'])
@pytest.mark.parametrize(
    'kwargs',
    [dict(), dict(num_classes=0), dict(num_classes=7, global_pool='max'), dict(num_classes=0, global_pool='')],
)
def test_the_hosts_arguments(name, kwargs):
    if 'mobilenetv3' in name and kwargs.get('global_pool') == '':
        kwargs = dict(num_classes=7, global_pool='catavgmax')
    if 'convnext' in name and kwargs.get('global_pool') == 'max':
        kwargs = dict(num_classes=7, global_pool='avgmax')
    x = images(name)
    converted, host = create(f'fg_{name}', **kwargs), create(name, **kwargs)
    assert_equal(converted(x), host(x))
    assert converted.num_classes == host.num_classes
    assert type(converted).__mro__.count(type(host)) == 1


@pytest.mark.parametrize('channels', [1, 4])
def test_other_numbers_of_channels(channels):
    x = images('test_resnet', channels=channels)
    converted, host = (create(name, in_chans=channels) for name in ('fg_test_resnet', 'test_resnet'))
    assert_equal(converted(x), host(x))
    assert converted.fg_generator.autoencoder.in_channels == channels
    with pytest.raises(ValueError, match=rf'images \(B, C, H, W\) of {channels} channels'):
        converted(images('test_resnet'))


def test_dropout():
    model = create('fg_test_resnet', drop_rate=0.5, drop_path_rate=0.1).train()
    assert model.drop_rate == 0.5
    x = images('test_resnet')
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_other_input_sizes():
    model = create('fg_test_vit', img_size=96)
    assert model.fg_conversion.input_size == (3, 96, 96)
    assert model(torch.zeros(2, 3, 96, 96, dtype=torch.float64)).shape == (2, 1000)


def test_a_size_that_the_network_refuses():
    kwargs = dict(patch_size=24, dynamic_img_size=True)
    with pytest.raises(ValueError, match=r'inputs of size \(3, 160, 160\).*divisible.*Give the input_size it is used'):
        timm.create_model('fg_test_vit', fg_input_size=(3, 160, 160), **kwargs)
    model = create('fg_test_vit', fg_input_size=(3, 144, 144), **kwargs)
    assert model(torch.zeros(1, 3, 144, 144, dtype=torch.float64)).shape == (1, 1000)


@pytest.mark.parametrize(
    ('name', 'kwargs'),
    [
        ('test_vit', dict()),
        ('test_coatnet', dict()),
        ('vit_tiny_r_s16_p8_224', dict(embed_dim=32, depth=1, num_heads=1)),
    ],
)
def test_another_input_size_after_the_conversion(name, kwargs):
    model, host = create(f'fg_{name}', **kwargs).train(), create(name, **kwargs)
    for network in (model, host):
        network.set_input_size(img_size=(96, 128))
        network.eval()
    x = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    assert_equal(model(x), host(x))
    assert fg_plugin.report(model).input_size == (3, 96, 128)


@pytest.mark.parametrize('head', HEADS)
def test_another_patch_size_after_the_conversion(head):
    model = create('fg_test_vit', fg_head=head, dynamic_img_size=True)
    perturb_(model)
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    frozen = copy.deepcopy(model)
    fg_plugin.freeze_(frozen, images[:1])
    for network in (model, frozen):
        network.set_input_size(img_size=96, patch_size=8)
    assert model.patch_embed.proj.weight.shape[2:] == (8, 8)
    assert isinstance(model.patch_embed.proj, FilterRepoConv)
    with model.conditioned_on(images[:1]):
        # timm resamples in float32.
        torch.testing.assert_close(model(images), frozen(images), rtol=1e-5, atol=1e-7)


def test_convolutions_that_a_classifier_head_rebuilds_stay_static():
    options = dict(num_classes=5, head_hidden_size=16, global_pool='')
    model, host = create('fg_convnext_atto', **options), create('convnext_atto', **options)
    assert type(model.head.pre_logits.fc) is torch.nn.Conv2d
    with pytest.raises(ValueError, match=r"'head.pre_logits.fc', which cannot be converted: its NormMlpClassifierHead"):
        create('fg_convnext_atto', fg_include=['head.pre_logits.fc'], **options)
    for network in (model, host):
        network.reset_classifier(0, 'avg')
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert_equal(model(x), host(x))


def test_another_patch_size_with_fewer_base_filters():
    model = create('fg_test_vit', fg_num_base_filters=0.5)
    with pytest.raises(ValueError, match=r"patch_size should be set before.*'patch_embed.proj'.*32 base filters"):
        model.set_input_size(patch_size=8)
    assert isinstance(model.patch_embed.proj, FilterRepoConv)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    model, x = timm.create_model('fg_test_resnet').eval(), images('test_resnet', batch=2).float()
    with torch.no_grad():
        expected = model(x)
        actual = model.to(dtype)(x.to(dtype))
        assert actual.dtype == dtype
        larger = model(torch.nn.functional.interpolate(x, (96, 96)).to(dtype))
    assert larger.isfinite().all()
    torch.testing.assert_close(actual.float(), expected, rtol=0.1, atol=0.05)


def test_output_stride():
    model, host = (create(name, output_stride=8, features_only=True) for name in ('fg_test_resnet', 'test_resnet'))
    x = images('test_resnet')
    assert_equal(model(x), host(x))
    assert max(model.feature_info.reduction()) == 8


def test_on_a_device_and_with_a_dtype():
    model = timm.create_model('fg_test_resnet', device='meta', dtype=torch.bfloat16)
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {'meta'}
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ('kwargs', 'check'),
    [
        (dict(fg_rank=3), lambda model: model.conv1[0].coefficient_head.left.shape[1] == 3),
        (dict(fg_head='full'), lambda model: isinstance(model.conv1[0].coefficient_head, FullHead)),
        (dict(fg_num_base_filters=4), lambda model: model.layer1[0].conv1.weight.shape[0] == 4),
        (dict(fg_include=['layer1.*']), lambda model: all(name.startswith('layer1.') for name in layers(model))),
        (dict(fg_exclude=['conv1.*']), lambda model: not any(name.startswith('conv1.') for name in layers(model))),
        (dict(fg_levels={'*': 0}), lambda model: {layer.level for layer in layers(model).values()} == {0}),
        (dict(fg_init='orthogonal'), lambda model: not any(layer.preserves_conv for layer in layers(model).values())),
        (dict(fg_encoder=[(4, 4), (6, 2)]), lambda model: model.fg_generator.neck.code_dims == (4, 6)),
        (dict(fg_input_size=(3, 96, 96)), lambda model: model.fg_conversion.input_size == (3, 96, 96)),
        (dict(fg_image_size=32), lambda model: model.fg_generator.image_size == 32),
        (dict(fg_reconstruction_weight=0.5), lambda model: model.fg_generator.reconstruction_weight == 0.5),
    ],
)
def test_options_of_the_conversion(kwargs, check):
    model = create('fg_test_resnet', **kwargs)
    assert layers(model)
    assert check(model)
    assert model(images('test_resnet')).isfinite().all()


def test_unknown_options():
    with pytest.raises(
        TypeError, match=r"'fg_rnak' is no option of generated filters\. They are: fg_include, .*fg_rank"
    ):
        timm.create_model('fg_test_resnet', fg_rnak=4)
    with pytest.raises(TypeError, match='unexpected keyword argument'):
        timm.create_model('fg_test_resnet', rank=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'fg_rank'"):
        timm.create_model('test_resnet', fg_rank=4)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        (dict(fg_include='layer1.*'), ValueError, r"include should be a list of patterns, but got the string 'layer1"),
        (dict(fg_include=['layer9.*']), fg_plugin.NothingMatchedError, r"'layer9\.\*' matches none of the 15 conv.*Cl"),
        (dict(fg_exclude=['*']), fg_plugin.NothingMatchedError, r"leave nothing to convert: 'conv1\.0': excluded"),
        (dict(fg_head='dense'), ValueError, 'head should be one of'),
        (dict(fg_num_base_filters=9999), ValueError, 'num_base_filters should be at most out_channels=16'),
        (dict(fg_encoder=[(4, 4)], fg_levels={'*': 1}), ValueError, r"levels\['\*'\] should be in \[0, 1\)"),
    ],
)
def test_bad_options(kwargs, error, message):
    with pytest.raises(error, match=message):
        timm.create_model('fg_test_resnet', **kwargs)


def test_patterns_that_match_only_what_is_skipped():
    message = r"leave nothing to convert: 'head\.fc': it is the classifier, which reset_classifier builds anew"
    with pytest.raises(fg_plugin.NothingMatchedError, match=message):
        timm.create_model('fg_resnetv2_18', fg_include=['head.*'])
    message = r"'head\.\*' of include matches only what cannot be converted: 'head\.fc': it is the classifier"
    with pytest.raises(fg_plugin.NothingMatchedError, match=message):
        timm.create_model('fg_resnetv2_18', fg_include=['stem.*', 'head.*'])
    with pytest.raises(ValueError, match=r"include names 'head\.fc', which cannot be converted: it is the classifier"):
        timm.create_model('fg_resnetv2_18', fg_include=['head.fc'])


def test_pixels_out_of_range_for_the_reconstruction_loss():
    model = create('fg_test_resnet', fg_reconstruction_weight=1).train()
    with pytest.raises(
        ValueError, match=r'targets of the reconstruction loss .* should be in \[0, 1\], but 100% of the pixels'
    ):
        model(255 * images('test_resnet'))
