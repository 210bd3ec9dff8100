"""What each convolution of a network sees in one forward."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fg_plugin.quiet_run import quiet_run


class ConvCall(NamedTuple):
    """Shapes that a convolution sees for an input batch of ``TRACE_BATCH``.

    Attributes:
        in_shapes: Of the input of each call.
        out_shape: Of the output of the first call.
    """

    in_shapes: tuple[tuple[int, ...], ...]
    out_shape: tuple[int, ...]


TRACE_BATCH = 2


def trace_convs(model: nn.Module, input_size: tuple[int, int, int]) -> dict[nn.Module, ConvCall]:
    """Run ``model`` on fake tensors (shapes only, nothing is computed) and record the calls of every convolution.

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
        call = calls.get(module, ConvCall((), tuple(out.shape)))
        calls[module] = call._replace(in_shapes=(*call.in_shapes, tuple(args[0].shape)))

    parameter = next(model.parameters())
    # The meta device computes shapes only, as fake tensors do, and faster.
    fake = nullcontext() if parameter.is_meta else FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with quiet_run(model), fake:
            for module in model.modules():
                if isinstance(module, nn.Conv2d):
                    module.register_forward_hook(record)
            model(torch.zeros(TRACE_BATCH, *input_size, dtype=parameter.dtype, device=parameter.device))
    except Exception as error:
        raise ValueError(
            f'The network does not run on a batch of {TRACE_BATCH} inputs of size {tuple(input_size)} (C, H, W): '
            f'{type(error).__name__}: {error}. Give the input_size it is used with.'
        ) from error
    return calls
