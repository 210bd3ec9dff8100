"""Runs a network without leaving a trace in it."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_HOOKS = ('_forward_hooks', '_forward_pre_hooks')


@contextmanager
def quiet_run(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, without gradients and without its own hooks, until the end of the block.

    At the end, all attributes of its modules are what they were, down to the values of buffers and the contents of
    plain containers. Many networks keep what they compute from the size of their input, such as tables of relative
    positions: from a run on shapes alone, they would keep tensors without values.
    """
    attributes = {module: dict(vars(module)) for module in model.modules()}
    containers = [
        (value, copy.copy(value))
        for values in attributes.values()
        for value in values.values()
        if type(value) in (dict, OrderedDict, list, set)
    ]
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
        for module, values in attributes.items():
            vars(module).clear()
            vars(module).update(values)
        for container, contents in containers:
            _refill(container, contents)


def _refill(container: Any, contents: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(contents)
    else:
        container.update(contents)
