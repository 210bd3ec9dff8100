"""The UNet of the landmark experiment."""

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from fg_plugin.models.conv_norm_act import conv_norm_act


@MODELS.register_module()
class UNet(BaseModule):
    """Five Conv+BN+LReLU down to 1/16 and four up again, n filters each (Table 8, without its last convolution).

    The paper's network is 'based on UNet': each upsampled map is concatenated with the encoder's map of its size.

    Args:
        n: Filters of each convolution: 32 in Model32, 64 in Model64.
        in_channels: Channels of the image.
        init_cfg: As in ``BaseModule``.
    """

    def __init__(self, n: int = 32, in_channels: int = 3, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.down = nn.ModuleList(
            conv_norm_act(in_channels if level == 0 else n, n, 1 if level == 0 else 2, nn.LeakyReLU)
            for level in range(5)
        )
        self.up = nn.ModuleList(conv_norm_act(2 * n, n, 1, nn.LeakyReLU) for _ in range(4))
        self.upsample = nn.Upsample(scale_factor=2, mode='nearest')

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images ``(B, 3, 64, 64)`` to features ``(B, n, 64, 64)``.

        Raises:
            ValueError: If the height or width is not a multiple of 16.
        """
        height, width = x.shape[2:]
        if height % 16 or width % 16:
            fitting = tuple(-(-size // 16) * 16 for size in (height, width))
            raise ValueError(
                f'The height and width of the image should be multiples of 16, but got {height}x{width}. '
                f'{fitting[0]}x{fitting[1]} would work.'
            )
        return (self._after_stem(self.down[0](x)),)

    def _after_stem(self, x: Tensor) -> Tensor:
        """Map the features of the first block to those of the last one, both ``(B, n, H, W)``."""
        skips = []
        for block in self.down[1:]:
            skips.append(x)
            x = block(x)
        for block in self.up:
            x = block(torch.cat([self.upsample(x), skips.pop()], dim=1))
        return x
