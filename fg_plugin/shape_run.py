"""Runs a network for its shapes alone: nothing is computed, unless its forward decides by values."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from fg_plugin.quiet_run import quiet_run

Seen = TypeVar('Seen')


def run_on_shapes(
    model: nn.Module,
    batch: int,
    input_size: tuple[int, int, int],
    watch: Callable[[nn.Module], AbstractContextManager[Seen]],
) -> Seen:
    """Run ``model`` on ``batch`` inputs of ``input_size`` (C, H, W) and return what ``watch`` saw.

    The inputs have no values, or if ``model`` does not run without and has values itself, they are zeros.

    Args:
        model: Any image model, on any device, the meta device too. It is left as it is, and its own hooks do not run.
        batch: Number of inputs.
        input_size: Of one of them.
        watch: Called with the model for each attempt to run it. The result is entered before the forward, and returns
            what is to be returned here.

    Raises:
        ValueError: If the model does not run on such inputs; its own error is the cause.
    """
    parameter = next(model.parameters())
    # The meta device is faster, but does not mix with tensors of the network that are neither parameters nor buffers.
    # A forward that decides by the values of its input needs real ones.
    attempts = (_on_meta, _on_fake_copies) if parameter.is_meta else (_on_fake_inputs, _on_values)
    for attempt in attempts:
        try:
            with quiet_run(model), attempt(model) as device, watch(model) as seen:
                model(torch.zeros(batch, *input_size, dtype=parameter.dtype, device=device))
            return seen
        except Exception as exception:
            error = exception
    inputs = f'{batch} input{"s" if batch > 1 else ""} of size {tuple(input_size)} (C, H, W)'
    hint = (
        'It should take one batch of images' if isinstance(error, TypeError) else 'Give the input_size it is used with'
    )
    raise ValueError(
        f'The network does not run on a batch of {inputs}: {type(error).__name__}: {error}. {hint}.'
    ) from error


@contextmanager
def _on_fake_inputs(model: nn.Module) -> Iterator[torch.device]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield next(model.parameters()).device


@contextmanager
def _on_values(model: nn.Module) -> Iterator[torch.device]:
    yield next(model.parameters()).device


@contextmanager
def _on_meta(model: nn.Module) -> Iterator[torch.device]:
    yield torch.device('meta')


@contextmanager
def _on_fake_copies(model: nn.Module) -> Iterator[torch.device]:
    """Let the tensors of ``model`` that are on the meta device be where its others are."""
    device = _device_of_values(model)
    # As on the meta device, attention is its matrix products.
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.is_meta:
                    fake = torch.empty_like(parameter, device=device)
                    module._parameters[name] = nn.Parameter(fake, requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_meta:
                    module._buffers[name] = torch.empty_like(buffer, device=device)
        yield device


def _device_of_values(model: nn.Module) -> torch.device:
    tensors = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors if not tensor.is_meta), torch.device('cpu'))
