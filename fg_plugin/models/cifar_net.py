"""The baseline network of the CIFAR-10 experiment."""

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from fg_plugin.models.conv_norm_act import conv_norm_act


@MODELS.register_module()
class CIFARNet(BaseModule):
    """Four Conv+BN+ReLU and a global average pool (Table 15, without its fully connected layer).

    Args:
        in_channels: Channels of the image.
        channels: Filters of each convolution; all but the first halve the size.
        init_cfg: As in ``BaseModule``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: tuple[int, ...] = (64, 128, 256, 256),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        blocks = []
        for index, out_channels in enumerate(channels):
            blocks.append(conv_norm_act(in_channels, out_channels, 1 if index == 0 else 2, nn.ReLU))
            in_channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images ``(B, 3, 32, 32)`` to features ``(B, 256, 1, 1)``."""
        return (self.pool(self.blocks(x)),)
