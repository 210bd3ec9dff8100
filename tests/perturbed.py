"""Converted networks whose filters differ from image to image, without a training."""

import torch
from torch import nn

from fg_plugin import FilterRepoConv


def perturb_heads_(model: nn.Module) -> nn.Module:
    """Add noise to all coefficient heads, which start at zero, and return ``model``."""
    torch.manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, FilterRepoConv):
            for parameter in layer.coefficient_head.parameters():
                parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model
