"""UNets that adapt to their image in another way than by generated filters, to compare these with."""

from typing import Any

from mmengine.registry import MODELS
from timm.layers import SEModule

from fg_plugin.layers.routed_cond_conv import RoutedCondConv
from fg_plugin.models.unet import UNet


@MODELS.register_module()
class SEUNet(UNet):
    """``UNet`` with timm's squeeze-and-excitation module, of a quarter of the channels, at the end of each block.

    Args:
        *args: As in ``UNet``.
        **kwargs: As in ``UNet``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for block in (*self.down, *self.up):
            block.add_module('attention', SEModule(block.conv.out_channels, rd_ratio=1 / 4))


@MODELS.register_module()
class CondConvUNet(UNet):
    """``UNet`` with all but the first convolution mixed of four kernels by timm's ``CondConv2d``.

    Args:
        *args: As in ``UNet``.
        **kwargs: As in ``UNet``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for block in (*self.down[1:], *self.up):
            block.conv = RoutedCondConv(block.conv)
