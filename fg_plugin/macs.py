"""Counts the multiplications of a network without running it."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fg_plugin.shape_run import run_on_shapes


class Macs(NamedTuple):
    """Multiply-accumulate operations of convolutions and matrix products, for one image at inference.

    Attributes:
        total: Of the whole network.
        modules: Of each module that was asked for, by name, over all its calls; 0 if it does not run.
    """

    total: int
    modules: dict[str, int]


def meta_copy(model: nn.Module) -> Any:
    """Copy ``model`` onto the meta device: its structure, without values or gradients."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        # With what a forward has left in them: only leaves of a graph can be copied by themselves.
        for tensor in tree_leaves(vars(module)):
            if isinstance(tensor, Tensor):
                meta = torch.empty_like(tensor, device='meta', requires_grad=False)
                memo[id(tensor)] = nn.Parameter(meta, False) if isinstance(tensor, nn.Parameter) else meta
    return copy.deepcopy(model, memo)


def count_macs(model: nn.Module, input_size: tuple[int, int, int], names: Sequence[str]) -> Macs:
    """Count the MACs of ``model`` for one image of ``input_size`` (C, H, W), and of its modules of the given names.

    Nothing is computed, unless ``model`` decides by values. The count is that of the operations on the meta device:
    attention, which other devices do in one operation that is not counted everywhere, is its matrix products there.

    Raises:
        ValueError: If the model does not run on such an image; its own error is the cause.
    """
    watch = partial(_count, names)
    try:
        (counted,) = run_on_shapes(meta_copy(model), 1, input_size, watch)
    except ValueError:
        if next(model.parameters()).is_meta:
            raise
        (counted,) = run_on_shapes(model, 1, input_size, watch)
    return counted


@contextmanager
def _count(names: Sequence[str], model: nn.Module) -> Iterator[list[Macs]]:
    """Append to the list, at the end of the block, what ran inside."""
    counted: list[Macs] = []
    counter = FlopCounterMode(display=False)
    flops = {model.get_submodule(name): 0 for name in names}

    def enter(module: nn.Module, args: tuple) -> None:
        flops[module] -= counter.get_total_flops()

    def leave(module: nn.Module, args: tuple, out: object) -> None:
        flops[module] += counter.get_total_flops()

    for module in flops:
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    with counter:
        yield counted
    # A multiplication and its addition count as two operations.
    modules = {name: flops[model.get_submodule(name)] // 2 for name in names}
    counted.append(Macs(counter.get_total_flops() // 2, modules))
