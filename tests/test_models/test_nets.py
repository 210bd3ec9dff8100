import pytest
import torch
from torch import nn

from fg_plugin.models import VGG11, CIFARNet, MNISTNet, UNet


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
