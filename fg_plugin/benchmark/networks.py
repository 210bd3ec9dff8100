"""The networks that the model benchmark compares: a ResNet-18 with and without sample-specific filters."""

from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from timm.layers.cond_conv2d import CondConv2d
from torch import Tensor, nn

import fg_plugin  # noqa: F401
from fg_plugin.benchmark.variants import NUM_EXPERTS


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


def condconv_resnet18() -> nn.Module:
    """Return a ResNet-18 whose 3x3 convolutions are ``RoutedCondConv``."""
    model = timm.create_model('resnet18')
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3):
                setattr(parent, name, RoutedCondConv(child))
    return model


REFERENCE = 'static'

# All have random weights: the time does not depend on them.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    REFERENCE: lambda: timm.create_model('resnet18'),
    'SE': lambda: timm.create_model('resnet18', block_args={'attn_layer': 'se'}),
    'CondConv': condconv_resnet18,
    'lowrank': lambda: timm.create_model('fg_resnet18'),
    'full': lambda: timm.create_model('fg_resnet18', fg_head='full'),
    'quarter': lambda: timm.create_model('fg_resnet18', fg_head='full', fg_num_base_filters=0.25),
}
