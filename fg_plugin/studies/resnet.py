"""timm's ResNet-18 in a size that a processor can train on small images."""

from collections.abc import Sequence
from typing import Any

import timm
from timm.models.resnet import ResNet
from torch import nn

RESNET_WIDTHS = (16, 32, 64, 128)


def small_resnet18(
    in_channels: int = 1, num_classes: int = 10, widths: Sequence[int] = RESNET_WIDTHS, attention: bool = False
) -> ResNet:
    """Build a ResNet-18 with a quarter of the channels, and a 3x3 stem that keeps the size of the image.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of classes.
        widths: Channels of the four stages; the stem has 64.
        attention: Add a squeeze-and-excitation module to each block.
    """
    net: Any = timm.create_model(
        'resnet18',
        in_chans=in_channels,
        num_classes=num_classes,
        channels=tuple(widths),
        block_args={'attn_layer': 'se'} if attention else None,
    )
    net.conv1 = nn.Conv2d(in_channels, net.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode='fan_out', nonlinearity='relu')
    net.maxpool = nn.Identity()
    return net
