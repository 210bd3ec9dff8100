"""What each convolution of a network sees in one forward."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from fg_plugin.shape_run import run_on_shapes


class ConvCall(NamedTuple):
    """Shapes that a convolution sees for an input batch of ``TRACE_BATCH``.

    Attributes:
        in_shapes: Of the input of each call.
        out_shape: Of the output of the first call.
    """

    in_shapes: tuple[tuple[int, ...], ...]
    out_shape: tuple[int, ...]


# Of no other meaning in a network: a convolution of two fixed rows, say, should not look as if they were two samples.
TRACE_BATCH = 7


def trace_convs(model: nn.Module, input_size: tuple[int, int, int]) -> dict[nn.Module, ConvCall]:
    """Run ``model`` for its shapes (nothing is computed) and record the calls of every convolution.

    Args:
        model: Any image model. It is left as it is, and its own hooks do not run.
        input_size: ``(C, H, W)`` of one input image.

    Returns:
        The calls by module; a convolution that the forward does not run is absent.

    Raises:
        ValueError: If the model refuses an input of that size; the model's own error is the cause.
    """
    return run_on_shapes(model, TRACE_BATCH, input_size, _record_calls)


@contextmanager
def _record_calls(model: nn.Module) -> Iterator[dict[nn.Module, ConvCall]]:
    calls: dict[nn.Module, ConvCall] = {}

    def record(module: nn.Module, args: tuple, kwargs: dict[str, Any], out: Tensor) -> None:
        call = calls.get(module, ConvCall((), tuple(out.shape)))
        calls[module] = call._replace(in_shapes=(*call.in_shapes, tuple(conv_input(args, kwargs).shape)))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(record, with_kwargs=True)
    yield calls


def conv_input(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """Return the input of a convolution that was called with ``args`` and ``kwargs``."""
    return args[0] if args else kwargs['input']
