"""The block that the paper's tables are made of."""

from collections import OrderedDict

from torch import nn


def conv_norm_act(in_channels: int, out_channels: int, stride: int, act: type[nn.Module]) -> nn.Sequential:
    """Build a 3x3 Conv+BN+activation whose padding keeps the size at stride 1.

    The paper's tables print 'padding 0' beside output sizes that need padding 1.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            norm=nn.BatchNorm2d(out_channels),
            act=act(),
        )
    )
