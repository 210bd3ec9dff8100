"""Converts an architecture on the meta device: every shape is computed, no value."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from fg_plugin.conv_selection import ConvRecord
from fg_plugin.convert import convert_, host_input, revert_
from fg_plugin.sweep.activation_memory import run_and_count
from fg_plugin.sweep.architectures import build_on_meta
from fg_plugin.sweep.light_meta import LightMeta

BATCH = 2
MAX_MEMORY_RATIO = 1.5


def check_shapes(name: str, facts: dict[str, Any]) -> Iterable[str]:
    """Yield what does not hold for architecture ``name``: convert, forward of two images in training, revert.

    ``facts`` is filled with ``convs``, ``converted``, ``skipped`` (counts by reason), ``parameters`` before and after,
    ``saved_bytes`` for the backward before and after, and ``memory_ratio``.
    """
    model = build_on_meta(name)
    input_size = host_input(model).size
    images = torch.empty(BATCH, *input_size, device='meta')
    facts.update(model_class=type(model).__qualname__, input_size=list(input_size))
    expected, host_bytes = run_and_count(model, images)
    expected_shapes = _shapes(expected)
    del expected
    host = _structure(model)
    parameters = _count_parameters(model)
    with LightMeta():
        records = convert_(model)
    facts.update(describe_conversion(records))
    out, converted_bytes = run_and_count(model, images)
    facts.update(
        parameters=[parameters, _count_parameters(model)],
        saved_bytes=[host_bytes, converted_bytes],
        memory_ratio=converted_bytes / host_bytes,
    )
    if _shapes(out) != expected_shapes:
        yield f'the output should be of shapes {expected_shapes}, but got {_shapes(out)}'
    if converted_bytes > MAX_MEMORY_RATIO * host_bytes:
        yield f'activations need {converted_bytes / host_bytes:.2f} times the memory of the host'
    revert_(model)
    if _structure(model) != host:
        yield 'revert_ does not give the modules, keys and parameters of the host back'


def describe_conversion(records: list[ConvRecord]) -> dict[str, Any]:
    """Return how many convolutions there are and are converted, and why the others are not."""
    return {
        'convs': len(records),
        'converted': sum(record.level is not None for record in records),
        'skipped': dict(Counter(record.reason for record in records if record.reason)),
    }


def _shapes(out: Any) -> list[list[int]]:
    return [list(leaf.shape) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]


def _structure(model: nn.Module) -> tuple[dict[str, type], list[str], dict[str, int], dict[str, bool]]:
    """Return the classes of the modules, the keys of the state dict, which parameters there are, and the modes."""
    modules = dict(model.named_modules(remove_duplicate=False))
    return (
        {name: type(module) for name, module in modules.items()},
        list(model.state_dict()),
        {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)},
        {name: module.training for name, module in modules.items()},
    )


def _count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
