"""The convolution classes that a generated-filter layer can take the place of."""

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn

from fg_plugin.layers.filter_repo_conv import FilterRepoConv
from fg_plugin.layers.standardised_filter_repo_conv import StandardisedFilterRepoConv

# By exact class: any other subclass may change its weight or its input in a way this package does not know.
_LAYER_CLASSES: dict[type[nn.Conv2d], type[FilterRepoConv]] = {
    nn.Conv2d: FilterRepoConv,
    Conv2dSame: FilterRepoConv,
    StdConv2d: StandardisedFilterRepoConv,
    StdConv2dSame: StandardisedFilterRepoConv,
    ScaledStdConv2d: StandardisedFilterRepoConv,
    ScaledStdConv2dSame: StandardisedFilterRepoConv,
}


def layer_class(conv: nn.Conv2d) -> type[FilterRepoConv] | None:
    """Return the generated-filter layer for a convolution of this class, None if there is none."""
    return _LAYER_CLASSES.get(type(conv))


def add_host_conv(cls: type[nn.Conv2d]) -> None:
    """Let convolutions of class ``cls`` be replaced, which should convolve as ``nn.Conv2d`` does.

    With a true attribute ``same_pad``, they pad for their input's size instead of by ``padding``, as ``Conv2dSame``.
    """
    _LAYER_CLASSES[cls] = FilterRepoConv
