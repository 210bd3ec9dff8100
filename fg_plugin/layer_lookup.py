"""Finds the generated-filter layers of a network."""

from torch import nn

from fg_plugin.layers import FilterRepoConv


def layers_of(model: nn.Module, aliases: bool = False) -> dict[str, FilterRepoConv]:
    """Return the generated-filter layers of ``model`` by name; none if its filters were frozen.

    Args:
        model: Any network.
        aliases: Whether to list a layer that appears in several places under the name of each, as a state dict does;
            by default, it has its first name only.
    """
    modules = model.named_modules(remove_duplicate=not aliases)
    return {name: module for name, module in modules if isinstance(module, FilterRepoConv)}
