"""Drives generated-filter layers that a backbone was built with, instead of converting its convolutions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fg_plugin.conv_selection import ConvRecord
from fg_plugin.layers import FilterRepoConv


def adopt_layers_(
    model: nn.Module, code_dims: Sequence[int], convert: Mapping[str, Any] | None, reset: bool
) -> list[ConvRecord]:
    """Check that the ``FilterRepoConv`` layers of ``model`` fit the codes, and name them.

    Args:
        model: A backbone with such layers, as ``conv_cfg=dict(type='FilterRepoConv', ...)`` builds them.
        code_dims: Length L_f of each level's code.
        convert: Options of a conversion, which should be absent.
        reset: Whether to initialise the layers by their own rules, with their bias as it is. mmcv's ``ConvModule`` has
            initialised the base filters as if they were the filters.

    Returns:
        One record per ``nn.Conv2d`` of the model, in the order of ``named_modules``.

    Raises:
        ValueError: For options of a conversion, or a layer whose level or length of code the neck does not have.
    """
    if convert:
        raise ValueError(
            f'convert should be left out for a backbone that has FilterRepoConv layers already, but got {convert}. Set '
            f"head, rank and num_base_filters in the backbone's conv_cfg, or leave the conv_cfg out to convert."
        )
    records = []
    for name, conv in model.named_modules():
        if not isinstance(conv, FilterRepoConv):
            if isinstance(conv, nn.Conv2d):
                records.append(ConvRecord(name, None, 'it was not built as a FilterRepoConv'))
            continue
        _check(name, conv, code_dims)
        conv.name = name
        records.append(ConvRecord(name, conv.level, ''))
        if reset:
            _reset_(conv)
    return records


def _check(name: str, layer: FilterRepoConv, code_dims: Sequence[int]) -> None:
    if layer.level >= len(code_dims):
        raise ValueError(
            f"level of the FilterRepoConv '{name}' should be in [0, {len(code_dims)}), the levels of the encoder, but "
            f'got {layer.level}. Set it in the conv_cfg.'
        )
    if layer.code_dim != code_dims[layer.level]:
        raise ValueError(
            f"code_dim of the FilterRepoConv '{name}' should be {code_dims[layer.level]}, the length of the neck's "
            f'code of level {layer.level}, but got {layer.code_dim}. The lengths of all levels are '
            f'{tuple(code_dims)}; set code_dim and level in the conv_cfg.'
        )


@torch.no_grad()
def _reset_(layer: FilterRepoConv) -> None:
    bias = None if layer.bias is None else layer.bias.clone()
    layer.reset_parameters()
    if bias is not None and layer.bias is not None:
        layer.bias.copy_(bias)
