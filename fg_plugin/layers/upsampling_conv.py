"""Nearest-neighbour upsampling and a convolution, as one transposed convolution."""

import torch.nn.functional as F
from torch import Tensor, nn


class UpsamplingConv2d(nn.Conv2d):
    """``nn.Conv2d`` of stride 1 over its input after a nearest-neighbour upsampling by 2.

    Each input pixel becomes four equal ones, which meet a filter of k x k weights as sums of the weights: the same map
    comes from a transposed convolution of stride 2 with (k + 1) x (k + 1) weights, each a sum of up to four. It takes
    4 products instead of 9 for k = 3 and 9 instead of 25 for k = 5, and does not keep the upsampled input for the
    backward pass.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd size k of the filters; the padding keeps the upsampled size.
        bias: Whether to add a bias.

    Raises:
        ValueError: If ``kernel_size`` is even.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size should be odd, so that stride 1 keeps the size, but got {kernel_size}.')
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve maps ``(B, C, H, W)`` to ``(B, N, 2 H, 2 W)``."""
        weight = self.weight.transpose(0, 1).flip(-1, -2)
        sums = F.pad(weight, (0, 1)) + F.pad(weight, (1, 0))
        sums = F.pad(sums, (0, 0, 0, 1)) + F.pad(sums, (0, 0, 1, 0))
        return F.conv_transpose2d(input, sums, self.bias, stride=2, padding=self.kernel_size[0] // 2)
