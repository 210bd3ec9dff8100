import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from torch import nn

import fg_plugin
import fg_plugin.registration


@pytest.mark.parametrize('size', [15, 16])
@pytest.mark.parametrize('options', [dict(stride=2), dict(stride=2, groups=3), dict(stride=1, dilation=2)])
def test_adaptive_padding_is_converted(options, size):
    torch.manual_seed(0)
    net = nn.Sequential(Conv2dAdaptivePadding(3, 6, 3, **options)).double()
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    expected = net(images)
    fg_plugin.convert_(net, mean=(0,) * 3, std=(1,) * 3, input_size=(3, size, size))
    assert isinstance(net[0], fg_plugin.FilterRepoConv)
    torch.testing.assert_close(net(images), expected, rtol=0, atol=1e-12)
    fg_plugin.revert_(net)
    assert type(net[0]) is Conv2dAdaptivePadding
    torch.testing.assert_close(net(images), expected, rtol=0, atol=0)
