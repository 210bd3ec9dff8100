"""UNets that adapt to their image without an autoencoder, to compare its generated filters with."""

from typing import Any

from mmengine.registry import MODELS
from timm.layers import SEModule
from torch import Tensor

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.feature_codes import FeatureCode, InputConditionedConv
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


@MODELS.register_module()
class InputCodesUNet(UNet):
    """``UNet`` with generated filters, static at the start, whose codes of length n come from each layer's input.

    Args:
        *args: As in ``UNet``.
        **kwargs: As in ``UNet``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for block in (*self.down, *self.up):
            block.conv = InputConditionedConv(block.conv, block.conv.out_channels, init='preserve')


@MODELS.register_module()
class StemCodesUNet(UNet):
    """``UNet`` whose first block gives the code, of length n, for the filters of all others, static at the start.

    Args:
        *args: As in ``UNet``.
        **kwargs: As in ``UNet``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stem: Any = self.down[0]
        code_dim = stem.conv.out_channels
        self.code = FeatureCode(code_dim, code_dim)
        for block in (*self.down[1:], *self.up):
            block.conv = FilterRepoConv.from_conv(block.conv, code_dim=code_dim, head='full', init='preserve')

    def _after_stem(self, x: Tensor) -> Tensor:
        with conditioning_scope(Conditioning(self, (self.code(x),))):
            return super()._after_stem(x)
