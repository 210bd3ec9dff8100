"""The network of the studies, and others of the same depth that adapt to their image in another way."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from timm.layers import SEModule
from torch import Tensor, nn

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.convert_convs import replace_modules_
from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.feature_codes import FeatureCode, InputConditionedConv
from fg_plugin.layers.routed_cond_conv import RoutedCondConv

WIDTHS = (16, 32, 64, 64)

# Length of the codes that take the autoencoder's place; as long as those of its last level.
CODE_DIM = 16


class StudyNet(nn.Module):
    """Four Conv+BN+ReLU, all but the first of stride 2, a global average pool and a fully connected layer.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of classes.
        widths: Filters of each convolution.
        attention: Add a squeeze-and-excitation module to each block.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        widths: Sequence[int] = WIDTHS,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        blocks = []
        for index, width in enumerate(widths):
            conv = nn.Conv2d(in_channels, width, 3, 1 if index == 0 else 2, padding=1, bias=False)
            layers = [conv, nn.BatchNorm2d(width), nn.ReLU()]
            blocks.append(nn.Sequential(*layers, *([SEModule(width, rd_ratio=1 / 4)] if attention else [])))
            in_channels = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, num_classes)``."""
        return self.classifier(self.blocks(x).mean((2, 3)))


class Standardise(nn.Module):
    """Give each image ``(B, C, H, W)`` the mean 0 and the standard deviation 1."""

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape."""
        std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
        return (images - mean) / std.clamp_min(1e-5)


class UnitNorm(nn.Module):
    """Scale vectors ``(B, r)`` to an L2 norm of 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return vectors of the same directions."""
        return F.normalize(vectors, dim=1)


class StemConditioned(nn.Module):
    """A network whose first block stays as it is, and gives the code for the filters of all others.

    Args:
        net: The network.
    """

    def __init__(self, net: StudyNet) -> None:
        super().__init__()
        self.net = net
        width = net.blocks[0][0].out_channels  # type: ignore[index]
        self.code = FeatureCode(width, CODE_DIM)
        convs = [module for module in net.blocks[1:].modules() if isinstance(module, nn.Conv2d)]
        replace_modules_(net, {conv: _generated(conv) for conv in convs})

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, num_classes)``."""
        stem = self.net.blocks[0](x)
        with conditioning_scope(Conditioning(self, (self.code(stem),))):
            return self.net.classifier(self.net.blocks[1:](stem).mean((2, 3)))


def with_condconv(net: StudyNet) -> StudyNet:
    """Return ``net`` with all but the first convolution mixed of four kernels by timm's ``CondConv2d``."""
    _replace_convs_(net.blocks[1:], RoutedCondConv)
    return net


def with_input_codes(net: nn.Module) -> nn.Module:
    """Return ``net`` with generated filters whose codes come from each layer's input."""
    _replace_convs_(net, lambda conv: InputConditionedConv(conv, CODE_DIM, init='orthogonal'))
    return net


def resized(
    build: Callable[[Sequence[int]], nn.Module],
    widths: Sequence[int],
    measure: Callable[[nn.Module], int],
    target: int,
) -> nn.Module:
    """Return the network of ``build(widths)`` whose measure, which grows with them, comes closest to ``target``.

    Args:
        build: Makes a network of these widths.
        widths: Where to start.
        measure: Its cost.
        target: The cost to come close to, by 1/8 to 6 times ``widths``.
    """

    def of(factor: int) -> nn.Module:
        return build(tuple(round(width * factor / 32) for width in widths))

    above = bisect_left(range(6 * 32), target, lo=32 // 8, key=lambda factor: measure(of(factor)))
    return min((of(factor) for factor in (above - 1, above)), key=lambda net: abs(measure(net) - target))


def count_parameters(net: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def _generated(conv: nn.Conv2d) -> FilterRepoConv:
    return FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, head='full', init='orthogonal')


def _replace_convs_(model: nn.Module, build: Callable[[nn.Conv2d], nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d:
                setattr(parent, name, build(child))
