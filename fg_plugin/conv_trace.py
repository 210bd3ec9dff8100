"""What each convolution of a network sees in one forward."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode


class ConvCall(NamedTuple):
    """Shapes of a convolution's first call, for an input batch of ``TRACE_BATCH``."""

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]


TRACE_BATCH = 2

_HOOKS = ('_forward_hooks', '_forward_pre_hooks')


def trace_convs(model: nn.Module, input_size: tuple[int, int, int]) -> dict[nn.Module, ConvCall]:
    """Run ``model`` on fake tensors (shapes only, nothing is computed) and record every convolution's first call.

    Args:
        model: Any image model. It is left as it is, and its own hooks do not run.
        input_size: ``(C, H, W)`` of one input image.

    Returns:
        The calls by module; a convolution that the forward does not run is absent.

    Raises:
        ValueError: If the model refuses an input of that size; the model's own error is the cause.
    """
    calls: dict[nn.Module, ConvCall] = {}

    def record(module: nn.Module, args: tuple, out: torch.Tensor) -> None:
        calls.setdefault(module, ConvCall(tuple(args[0].shape), tuple(out.shape)))

    parameter = next(model.parameters())
    # The meta device computes shapes only, as fake tensors do, and faster.
    fake = nullcontext() if parameter.is_meta else FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with _unchanged(model), fake, torch.no_grad():
            model.eval()
            for module in model.modules():
                for name in _HOOKS:
                    setattr(module, name, OrderedDict())
                if isinstance(module, nn.Conv2d):
                    module.register_forward_hook(record)
            model(torch.zeros(TRACE_BATCH, *input_size, dtype=parameter.dtype, device=parameter.device))
    except Exception as error:
        raise ValueError(
            f'The network does not run on a batch of {TRACE_BATCH} inputs of size {tuple(input_size)} (C, H, W): '
            f'{type(error).__name__}: {error}. Give the input_size it is used with.'
        ) from error
    return calls


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Undo at the end what is done inside to the attributes of the modules, down to the contents of plain containers.

    Many networks keep what they compute from the size of their input, such as tables of relative positions. Kept from a
    trace, it would be fake tensors.
    """
    attributes = {module: dict(vars(module)) for module in model.modules()}
    containers = [
        (value, copy.copy(value))
        for values in attributes.values()
        for value in values.values()
        if type(value) in (dict, OrderedDict, list, set)
    ]
    try:
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
