"""Runs a network without leaving a trace in it."""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = ('_forward_hooks', '_forward_pre_hooks')
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)


@contextmanager
def quiet_run(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, without gradients and without its own hooks, until the end of the block.

    At the end, all attributes of its modules are what they were, down to the values of buffers, the contents of plain
    containers and the attributes of other objects in them. Many networks keep what they compute from the size of their
    input, such as tables of relative positions: from a run on shapes alone, they would keep tensors without values.
    """
    states = [(state, copy.copy(state)) for state in _states(model)]
    try:
        with torch.no_grad():
            model.eval()
            for module in model.modules():
                for name in _HOOKS:
                    setattr(module, name, OrderedDict())
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = buffer.clone()
            yield
    finally:
        for state, contents in states:
            _restore_(state, contents)


def _states(model: nn.Module) -> list[Any]:
    """Return what the modules of ``model`` keep: their attributes, those of objects there, and all plain containers."""
    pending: list[tuple[Any, bool]] = [(vars(module), True) for module in model.modules()]
    states: dict[int, Any] = {}
    for state, takes_objects in pending:
        if id(state) in states:
            continue
        states[id(state)] = state
        for value in state.values() if isinstance(state, dict) else state:
            if type(value) in _CONTAINERS:
                pending.append((value, takes_objects))
            # No further than this: an object may lead to the whole program, as a trainer does.
            elif takes_objects and _is_helper(value):
                pending.append((vars(value), False))
    return list(states.values())


def _is_helper(value: Any) -> bool:
    return type(getattr(value, '__dict__', None)) is dict and not isinstance(value, (Tensor, ModuleType))


def _restore_(state: Any, contents: Any) -> None:
    # What is shared with the rest of the program, such as a logger, should not be empty for a moment.
    now, before = _parts(state), _parts(contents)
    if len(now) == len(before) and all(map(is_, now, before)):
        return
    state.clear()
    if isinstance(state, list):
        state.extend(contents)
    else:
        state.update(contents)


def _parts(state: Any) -> list[Any]:
    return [*state, *state.values()] if isinstance(state, dict) else [*state]
