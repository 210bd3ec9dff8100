"""Leaves out the levels of an encoder that drive no layer."""

from torch import nn

from fg_plugin.generator import FilterGenerator
from fg_plugin.layer_lookup import layers_of


def drop_unused_levels_(model: nn.Module, generator: FilterGenerator) -> None:
    """Leave no part of ``generator`` without a layer of ``model`` to drive: in training, it would get no gradient."""
    layers = layers_of(model).values()
    used = sorted({layer.level for layer in layers})
    if used and len(used) < len(generator.levels):
        generator.keep_(used)
        for layer in layers:
            layer.level = used.index(layer.level)
