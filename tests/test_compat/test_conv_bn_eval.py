import pytest
import torch
from mmengine.model.efficient_conv_bn_eval import turn_on_efficient_conv_bn_eval
from torch import nn

import fg_plugin
import fg_plugin.registration


def test_generated_convolutions_are_not_fused():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Sequential(nn.Conv2d(4, 4, 3)))
    net = nn.Sequential(net, nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))).eval()
    images = torch.rand(2, 3, 16, 16)
    expected = net(images)
    fg_plugin.convert_(net, exclude=['1.*'], mean=(0,) * 3, std=(1,) * 3, input_size=(3, 16, 16))
    with pytest.raises(ValueError, match=r"should name modules without generated filters, .* holds '0\.0'"):
        turn_on_efficient_conv_bn_eval(net, ['0'])
    # The others are.
    turn_on_efficient_conv_bn_eval(net, ['1'])
    torch.testing.assert_close(net(images), expected)
