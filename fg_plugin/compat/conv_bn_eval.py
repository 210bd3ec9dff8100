"""Keeps MMEngine from fusing generated convolutions: their weight is the filter repository."""

from functools import wraps
from typing import Any

import mmengine.model.efficient_conv_bn_eval as efficient_conv_bn_eval
from torch import nn

from fg_plugin.layers import FilterRepoConv

_TURN_ON = 'turn_on_efficient_conv_bn_eval_for_single_model'


def refuse_conv_bn_eval() -> None:
    """Make the key ``efficient_conv_bn_eval`` of a Runner refuse generated filters; again, nothing changes."""
    turn_on = getattr(efficient_conv_bn_eval, _TURN_ON)
    if hasattr(turn_on, '__wrapped__'):
        return

    @wraps(turn_on)
    def turn_on_without_generated_filters(model: nn.Module) -> Any:
        for name, module in model.named_modules():
            if isinstance(module, FilterRepoConv):
                raise ValueError(
                    f'efficient_conv_bn_eval should name modules without generated filters, but {type(model).__name__} '
                    f"holds '{name}', whose filters depend on the image: leave the module out."
                )
        return turn_on(model)

    setattr(efficient_conv_bn_eval, _TURN_ON, turn_on_without_generated_filters)
