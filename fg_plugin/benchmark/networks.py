"""The networks that the model benchmark compares: a ResNet-18 with and without sample-specific filters."""

from collections.abc import Callable

import timm
from torch import nn

import fg_plugin  # noqa: F401
from fg_plugin.layers.routed_cond_conv import RoutedCondConv


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
