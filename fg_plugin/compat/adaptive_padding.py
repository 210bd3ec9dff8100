"""Lets mmcv's convolution with dynamic 'same' padding be converted, as in EfficientNet and MobileNetV3."""

from mmcv.cnn.bricks import Conv2dAdaptivePadding

from fg_plugin.layers.host_convs import add_host_conv


def allow_adaptive_padding() -> None:
    """Convert ``Conv2dAdaptivePadding``: it pads as timm's ``Conv2dSame`` does; calling it again changes nothing."""
    # The attribute by which timm's weight-standardised convolutions say so, too.
    Conv2dAdaptivePadding.same_pad = True
    add_host_conv(Conv2dAdaptivePadding)
