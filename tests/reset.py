"""What training code does to initialise a network anew."""

from torch import nn


def reset_modules(model: nn.Module) -> None:
    """Let every module of ``model`` that can reset its parameters do so, from the outside to the inside."""
    for module in model.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
