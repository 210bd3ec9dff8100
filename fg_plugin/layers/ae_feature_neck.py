"""Dimension reduction from the encoder's feature maps to codes (section 3.1, Tables 6-7, 10-14, 17-20)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from fg_plugin.layers.normalisation import normalisation
from fg_plugin.layers.patch_conv import PatchConv2d


class Reduction(NamedTuple):
    """One Conv+BN+LReLU of a dimension-reduction network."""

    kernel_size: int
    stride: int
    padding: int


class AEFeatureNeck(nn.Module):
    """Reduce the feature map of each encoder level to a code: Conv+BN+LReLU down to 1x1, then FC+LReLU.

    Args:
        in_channels: Channels of each level's feature map; a level's reduction and its code have as many.
        in_sizes: Side of each level's (square) feature map.
        reductions: For each level, ``(kernel_size, stride, padding)`` of its convolutions. None follows the rule of
            Tables 10-14 and 17-20: 4x4 convolutions of stride 4 while more than 4x4 is left, then one convolution over
            all that is left.
        norm: ``'batch'`` (the paper's) or ``'group'``, see ``normalisation``.

    Raises:
        ValueError: If the arguments' lengths differ, or a level does not end at 1x1.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_sizes: Sequence[int],
        reductions: Sequence[Sequence[tuple[int, int, int]]] | None = None,
        norm: str = 'batch',
    ) -> None:
        super().__init__()
        if reductions is None:
            reductions = [paper_reductions(size) for size in in_sizes]
        if not len(in_channels) == len(in_sizes) == len(reductions):
            raise ValueError(
                f'in_channels, in_sizes and reductions should have one entry per level, but got {len(in_channels)}, '
                f'{len(in_sizes)} and {len(reductions)}.'
            )
        self.code_dims = tuple(in_channels)
        self.levels = nn.ModuleList()
        for level, (channels, size, reduction) in enumerate(zip(in_channels, in_sizes, reductions, strict=True)):
            convs = [Reduction(*conv) for conv in reduction]
            left = reduced_size(size, convs)
            if left != 1:
                raise ValueError(
                    f'reductions of level {level} should reduce {size}x{size} to 1x1, but {[tuple(c) for c in convs]} '
                    f'leaves {left}x{left}.'
                )
            self.levels.append(_build_level(channels, convs, norm))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Reduce feature maps ``(B, C_l, H_l, W_l)`` (before the activation) to codes ``(B, C_l)``."""
        return tuple(level(feature) for level, feature in zip(self.levels, features, strict=True))

    def keep_(self, positions: Sequence[int]) -> None:
        """Keep only the codes at these positions."""
        self.code_dims = tuple(self.code_dims[position] for position in positions)
        self.levels = nn.ModuleList(self.levels[position] for position in positions)


class CodeLinear(nn.Linear):
    """The layer that codes come from: their second moment is the one that the heads' initial scales rely on.

    See ``coefficient_heads.CODE_SECOND_MOMENT``.
    """

    def reset_parameters(self) -> None:
        """Draw weights of Kaiming's scale, without a bias."""
        # What it draws first is part of what follows from a seed.
        super().reset_parameters()
        nn.init.kaiming_normal_(self.weight, nonlinearity='leaky_relu')
        nn.init.zeros_(self.bias)


def paper_reductions(size: int) -> list[tuple[int, int, int]]:
    """Return the convolutions that Tables 10-14 and 17-20 use for a feature map of side ``size``."""
    convs = []
    while size > 4:
        convs.append((4, 4, 0))
        size //= 4
    return [*convs, (size, 1, 0)]


def reduced_size(size: int, convs: Sequence[Reduction]) -> int:
    """Return the side that is left of a feature map of side ``size`` after ``convs``."""
    for conv in convs:
        size = (size + 2 * conv.padding - conv.kernel_size) // conv.stride + 1
    return size


def _build_level(channels: int, convs: Sequence[Reduction], norm: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, conv in enumerate(convs):
        layers[f'conv{index}'] = PatchConv2d(channels, channels, *conv, bias=False)
        layers[f'norm{index}'] = normalisation(norm, channels)
        layers[f'act{index}'] = nn.LeakyReLU()
    layers['flatten'] = nn.Flatten()
    layers['fc'] = CodeLinear(channels, channels)
    layers['act'] = nn.LeakyReLU()
    return nn.Sequential(layers)
