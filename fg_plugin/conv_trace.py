"""What each convolution of a network sees in one forward."""

from collections import OrderedDict
from contextlib import nullcontext
from typing import NamedTuple

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
        model: Any image model. Its modes, buffers and parameters are left as they are, its own hooks do not run.
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
    modes = {module: module.training for module in model.modules()}
    hooks = {(module, name): getattr(module, name) for module in modes for name in _HOOKS}
    try:
        model.eval()
        for module, name in hooks:
            setattr(module, name, OrderedDict())
        for module in modes:
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(record)
        # The meta device computes shapes only, as fake tensors do, and faster.
        fake = nullcontext() if parameter.is_meta else FakeTensorMode(allow_non_fake_inputs=True)
        with fake, torch.no_grad():
            model(torch.zeros(TRACE_BATCH, *input_size, dtype=parameter.dtype, device=parameter.device))
    except Exception as error:
        raise ValueError(
            f'The network does not run on a batch of {TRACE_BATCH} inputs of size {tuple(input_size)} (C, H, W): '
            f'{type(error).__name__}: {error}. Give the input_size it is used with.'
        ) from error
    finally:
        for (module, name), original in hooks.items():
            setattr(module, name, original)
        for module, training in modes.items():
            module.training = training
    return calls
