"""Lets a converted backbone be initialised by its own code, as if it had not been converted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fg_plugin.convert_convs import replace_modules_
from fg_plugin.layer_lookup import layers_of
from fg_plugin.layers import FilterRepoConv


def keep_values(tensors: Iterable[Tensor]) -> Callable[[], None]:
    """Copy the values of ``tensors`` now; the returned function puts them back."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def put_back() -> None:
        for tensor, values in kept:
            tensor.copy_(values)

    return put_back


@contextmanager
def plain_convs(model: nn.Module, takes_values: bool) -> Iterator[list[nn.Parameter]]:
    """Put ordinary convolutions in place of the generated-filter layers, until the end of the block.

    Initialisation code then meets what it was written for: the classes, shapes and fans of the host, no linear layers
    of heads, and random numbers in the host's order. At the end, the layers whose convolution loaded a checkpoint
    compute what that computes, with ``takes_values`` all of them; the others stay as they were. The bias is shared.

    Yields:
        Those parameters of the ordinary convolutions that ``model`` did not have before.

    Raises:
        ValueError: Inside the block, if a convolution is to load generated filters, or a layer has more base filters
            than the loaded convolution has filters.
    """
    layers = layers_of(model)
    loaded: set[FilterRepoConv] = set()
    convs = {layer: _plain(layer) for layer in layers.values()}
    handles = [
        convs[layer].register_load_state_dict_pre_hook(partial(_note_loading, name, layer, loaded))
        for name, layer in layers.items()
    ]
    own = {id(parameter) for parameter in model.parameters()}
    replace_modules_(model, convs)
    try:
        yield [p for conv in convs.values() for p in conv.parameters() if id(p) not in own]
    finally:
        # The layer keeps the attributes of its convolution, and these hooks would be among them.
        for handle in handles:
            handle.remove()
        replace_modules_(model, {conv: layer for layer, conv in convs.items()})
    for layer, conv in convs.items():
        if conv.weight is not layer.weight and (takes_values or layer in loaded):
            _take_values_(layer, conv.weight)


def _plain(layer: FilterRepoConv) -> nn.Conv2d:
    if layer.preserves_conv:
        return layer.to_conv()
    with torch.no_grad():
        code = layer.weight.new_zeros(1, layer.code_dim)
        return layer.frozen(layer.coefficient_head(code))


def _note_loading(
    name: str,
    layer: FilterRepoConv,
    loaded: set[FilterRepoConv],
    conv: nn.Module,
    state_dict: dict[str, Any],
    prefix: str,
    *_: Any,
) -> None:
    if any(key.startswith(f'{prefix}coefficient_head.') for key in state_dict):
        raise ValueError(
            f"The checkpoint of the backbone's init_cfg should be one of the plain backbone, but it holds generated "
            f"filters for '{name}'. Give the init_cfg to the FGBackboneWrapper instead, with a prefix that ends "
            f"before 'backbone.{name}', or use load_from."
        )
    if prefix + 'weight' not in state_dict:
        return
    if layer.num_base_filters > layer.out_channels:
        raise ValueError(
            f"The checkpoint of the backbone's init_cfg cannot be loaded into '{name}', because it has "
            f'{layer.num_base_filters} base filters for {layer.out_channels} filters. Leave num_base_filters=None, or '
            f'train from scratch.'
        )
    loaded.add(layer)


@torch.no_grad()
def _take_values_(layer: FilterRepoConv, weight: Tensor) -> None:
    if layer.num_base_filters < layer.out_channels:
        layer.load_state_dict({'weight': weight}, strict=False)
        return
    layer.weight.copy_(weight)
    layer.coefficient_head.init_static_(None)
