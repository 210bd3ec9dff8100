import pytest
import torch
from torch import nn

from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.routed_cond_conv import RoutedCondConv
from fg_plugin.models import VGG11, CIFARNet, CondConvUNet, InputCodesUNet, MNISTNet, SEUNet, StemCodesUNet, UNet


def conv_shapes(net, x):
    """Output sizes of the net's convolutions in the order they run, as the paper's tables list them."""
    shapes = []
    handles = [
        module.register_forward_hook(lambda _, __, out: shapes.append((out.shape[2], out.shape[1])))
        for module in net.modules()
        if isinstance(module, nn.Conv2d)
    ]
    out = net(x)
    for handle in handles:
        handle.remove()
    return shapes, out


def test_table_4():
    shapes, (features,) = conv_shapes(MNISTNet(), torch.rand(2, 1, 28, 28))
    assert shapes == [(24, 5), (8, 5)]
    assert features.shape == (2, 5, 4, 4)


def test_table_15():
    shapes, (features,) = conv_shapes(CIFARNet(), torch.rand(2, 3, 32, 32))
    assert shapes == [(32, 64), (16, 128), (8, 256), (4, 256)]
    assert features.shape == (2, 256, 1, 1)


@pytest.mark.parametrize('n', [32, 64])
def test_table_8(n):
    shapes, (features,) = conv_shapes(UNet(n), torch.rand(2, 3, 64, 64))
    assert shapes == [(side, n) for side in (64, 32, 16, 8, 4, 8, 16, 32, 64)]
    assert features.shape == (2, n, 64, 64)


@pytest.mark.parametrize('build', [SEUNet, CondConvUNet, InputCodesUNet, StemCodesUNet])
def test_adaptive_unets_compute_each_image_by_itself(build):
    net = build(8).eval()
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        (features,) = net(images)
        alone = torch.cat([net(image[None])[0] for image in images])
    assert features.shape == (3, 8, 32, 32)
    torch.testing.assert_close(features, alone)


def test_se_unet_scales_the_channels_of_every_block():
    net = SEUNet(8).eval().double()
    blocks = [*net.down, *net.up]
    assert [list(dict(block.named_children())) for block in blocks] == [['conv', 'norm', 'act', 'attention']] * 9
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    block = net.down[0]
    with torch.no_grad():
        plain = block.act(block.norm(block.conv(x)))
        scale = block(x) / plain
    torch.testing.assert_close(scale, scale.mean((2, 3), keepdim=True).expand_as(scale))
    assert (scale > 0).all()
    assert (scale < 1).all()


def test_condconv_unet_mixes_kernels_in_all_convolutions_but_the_first():
    net = CondConvUNet(8).double()
    assert [type(block.conv) for block in (*net.down, *net.up)] == [nn.Conv2d] + [RoutedCondConv] * 8
    conv = net.down[1].conv
    x = torch.rand(2, 8, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        routing = torch.sigmoid(conv.routing_fn(x.mean((2, 3))))
        kernels = torch.einsum('be,ek->bk', routing, conv.conv.weight).view(2, 8, 8, 3, 3)
        slow = [nn.functional.conv2d(x[i : i + 1], kernels[i], stride=2, padding=1) for i in range(2)]
        torch.testing.assert_close(conv(x), torch.cat(slow))


@pytest.mark.parametrize(('build', 'num_convs'), [(InputCodesUNet, 9), (StemCodesUNet, 8)])
def test_unets_with_their_own_codes_start_static(build, num_convs):
    torch.manual_seed(0)
    static = UNet(8).eval().double()
    torch.manual_seed(0)
    net = build(8).eval().double()
    convs = [module for module in net.modules() if isinstance(module, FilterRepoConv)]
    assert len(convs) == num_convs
    repositories = iter(convs)
    for plain in [module for module in static.modules() if isinstance(module, nn.Conv2d)][9 - num_convs :]:
        torch.testing.assert_close(next(repositories).weight, plain.weight)
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(images), static(images))


def random_heads_(net):
    for module in net.modules():
        if isinstance(module, FilterRepoConv):
            nn.init.normal_(module.coefficient_head.linear.weight, std=0.1)


def slow_generated_conv(layer, x, code):
    """One image's convolution, by the filters that are written out."""
    coefficients = layer.coefficient_head.linear(code).view(layer.out_channels, layer.num_base_filters)
    filters = torch.einsum('nm,mchw->nchw', coefficients, layer.weight)
    return nn.functional.conv2d(x, filters, stride=layer.stride, padding=layer.padding)


def test_input_codes_unet_computes_each_layers_code_from_its_input():
    net = InputCodesUNet(8).double()
    random_heads_(net)
    conv = net.down[1].conv
    x = torch.rand(2, 8, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        codes = nn.functional.leaky_relu(x.mean((2, 3)) @ conv.code[0].weight.T + conv.code[0].bias)
        slow = [slow_generated_conv(conv.conv, x[i : i + 1], codes[i : i + 1]) for i in range(2)]
        torch.testing.assert_close(conv(x), torch.cat(slow))


def test_stem_codes_unet_computes_all_codes_from_its_first_block():
    net = StemCodesUNet(8).eval().double()
    random_heads_(net)
    calls = []
    for block in (*net.down[1:], *net.up):
        block.conv.register_forward_hook(lambda layer, args, out: calls.append((layer, args[0], out)))
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        net(images)
        stem = net.down[0](images)
        code = nn.functional.leaky_relu(stem.mean((2, 3)) @ net.code[0].weight.T + net.code[0].bias)
        assert [layer for layer, _, _ in calls] == [block.conv for block in (*net.down[1:], *net.up)]
        for layer, x, out in calls:
            torch.testing.assert_close(out, slow_generated_conv(layer, x, code))


@pytest.mark.parametrize('batch_norm', [False, True])
def test_vgg11(batch_norm):
    shapes, (features,) = conv_shapes(VGG11(batch_norm), torch.rand(2, 3, 32, 32))
    assert [channels for _, channels in shapes] == [64, 128, 256, 256, 512, 512, 512, 512]
    assert features.shape == (2, 512, 1, 1)


@pytest.mark.parametrize(
    ('net', 'size', 'message'),
    [
        (MNISTNet(), (1, 1, 15, 28), r'at least 16x16 .* but got \(15, 28\)'),
        (VGG11(), (1, 3, 31, 32), r'at least 32x32, but got \(31, 32\)'),
        (UNet(4), (1, 3, 60, 64), 'multiples of 16, but got 60x64. 64x64 would work'),
    ],
)
def test_small_images_name_the_size_that_works(net, size, message):
    with pytest.raises(ValueError, match=message):
        net(torch.rand(size))
