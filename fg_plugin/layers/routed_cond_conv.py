"""The layer that generated filters are compared with: a mixture of kernels, chosen by the layer's own input."""

import torch
import torch.nn.functional as F
from timm.layers.cond_conv2d import CondConv2d
from torch import Tensor, nn

NUM_EXPERTS = 4


class RoutedCondConv(nn.Module):
    """timm's ``CondConv2d`` with the routing of timm's ``CondConvResidual``: a linear layer on the pooled input.

    Args:
        conv: The convolution to take the place of, without a bias.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.routing_fn = nn.Linear(conv.in_channels, NUM_EXPERTS)
        self.conv = CondConv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            num_experts=NUM_EXPERTS,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (B, C, H, W) with a mixture of experts for each sample."""
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.conv(x, torch.sigmoid(self.routing_fn(pooled)))
