"""Runs a network for its shapes alone: nothing is computed, unless its forward decides by values."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any, TypeVar
from weakref import ref

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

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
        ValueError: If the model does not run on such inputs; its own error is the cause. If it keeps tensors without
            values where they cannot be taken back.
    """
    parameter = next(model.parameters())
    # The meta device is faster, but does not mix with tensors of the network that are neither parameters nor buffers.
    # A forward that decides by the values of its input needs real ones.
    attempts = (_on_meta, _on_fake_copies) if parameter.is_meta else (_on_fake_inputs, _on_values)
    mode = _ShapesMode()
    for attempt in attempts:
        error = None
        try:
            with quiet_run(model), attempt(model, mode) as device, watch(model) as seen:
                model(torch.zeros(batch, *input_size, dtype=parameter.dtype, device=device))
        except Exception as exception:
            error = exception
        mode.clear_caches_()
        if error is None:
            mode.check_forgotten(model)
            return seen
    inputs = f'{batch} input{"s" if batch > 1 else ""} of size {tuple(input_size)} (C, H, W)'
    hint = (
        'It should take one batch of images' if isinstance(error, TypeError) else 'Give the input_size it is used with'
    )
    raise ValueError(
        f'The network does not run on a batch of {inputs}: {type(error).__name__}: {error}. {hint}.'
    ) from error


class _ShapesMode(FakeTensorMode):
    """Knows the tensors without values that it has made."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._made: list[ref[FakeTensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        self._made += [ref(leaf) for leaf in tree_leaves(out) if isinstance(leaf, FakeTensor)]
        return out

    def _left(self) -> list[FakeTensor]:
        tensors = [made() for made in self._made]
        return [tensor for tensor in tensors if tensor is not None]

    def clear_caches_(self) -> None:
        """Clear the caches of functions that return such a tensor."""
        if not self._left():
            return
        for function in gc.get_objects():
            if type(function) is _CachedFunction and any(
                isinstance(leaf, FakeTensor) and leaf.fake_mode is self
                for leaf in tree_leaves(gc.get_referents(function))
            ):
                function.cache_clear()

    def check_forgotten(self, model: nn.Module) -> None:
        """Check that nothing keeps such a tensor, which later forwards of ``model`` might compute with.

        Raises:
            ValueError: If something does.
        """
        if self._left():
            gc.collect()
        if left := self._left():
            raise ValueError(
                f'The forward of {type(model).__name__} should keep what it computes in attributes of its modules, but '
                f'something else, such as a global variable, keeps a tensor of shape {tuple(left[-1].shape)}. This run '
                f'was for shapes alone: clear it now, because the tensor has no values. Keep it as a buffer or in a '
                f'function with functools.cache.'
            )


_CachedFunction = type(lru_cache(lambda: None))


@contextmanager
def _on_fake_inputs(model: nn.Module, mode: FakeTensorMode) -> Iterator[torch.device]:
    with mode:
        yield next(model.parameters()).device


@contextmanager
def _on_values(model: nn.Module, mode: FakeTensorMode) -> Iterator[torch.device]:
    yield next(model.parameters()).device


@contextmanager
def _on_meta(model: nn.Module, mode: FakeTensorMode) -> Iterator[torch.device]:
    yield torch.device('meta')


@contextmanager
def _on_fake_copies(model: nn.Module, mode: FakeTensorMode) -> Iterator[torch.device]:
    """Let the tensors of ``model`` that are on the meta device be where its others are."""
    device = _device_of_values(model)
    # As on the meta device, attention is its matrix products.
    with mode, sdpa_kernel(SDPBackend.MATH):
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
