"""Codes computed from the network's own features, to compare those of the autoencoder with."""

from torch import Tensor, nn

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.layers.ae_feature_neck import CodeLinear
from fg_plugin.layers.filter_repo_conv import FilterRepoConv


class FeatureCode(nn.Sequential):
    """A fully connected layer and LeakyReLU on the means of the feature maps.

    Args:
        channels: Number of feature maps.
        code_dim: Length L_f of the code.
    """

    def __init__(self, channels: int, code_dim: int) -> None:
        super().__init__(CodeLinear(channels, code_dim), nn.LeakyReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Reduce features ``(B, C, H, W)`` to codes ``(B, code_dim)``."""
        return super().forward(features.mean((2, 3)))


class InputConditionedConv(nn.Module):
    """A generated-filter layer with full heads whose code is computed from its own input, not by an autoencoder.

    Args:
        conv: The convolution to take the place of.
        code_dim: Length L_f of the code.
        init: As in ``FilterRepoConv.from_conv``.
    """

    def __init__(self, conv: nn.Conv2d, code_dim: int, init: str) -> None:
        super().__init__()
        self.code = FeatureCode(conv.in_channels, code_dim)
        self.conv = FilterRepoConv.from_conv(conv, code_dim=code_dim, head='full', init=init)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (B, C, H, W) with filters generated from its mean over the pixels."""
        with conditioning_scope(Conditioning(self, (self.code(x),))):
            return self.conv(x)
