"""How this image's codes reach the generated-filter layers without changing the host network's ``forward``.

The outermost call (a wrapper) opens a thread-local scope that holds the codes; every ``FilterRepoConv`` inside reads
them from there. Attributes on the layers would be simpler and are silently wrong: with gradient checkpointing and two
forwards before one backward, the recomputation of the first would see the codes of the second.

``torch.utils.checkpoint.checkpoint`` recomputes outside the scope, and often in another thread. Importing this module
therefore replaces it by a shim that captures the codes of all open scopes at the call and passes them to the
recomputation as explicit tensor arguments. It runs in these scopes and no others, because the backward may be called
inside of another one. Code that bound the original function by ``from torch.utils.checkpoint import checkpoint`` before
this module was imported keeps the original: its recomputation finds no scope, and the layer raises instead of computing
a wrong gradient. So does that of ``torch.distributed._composable.checkpoint``, which never calls the function.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch.utils.checkpoint
from torch import Tensor, nn


class Conditioning(NamedTuple):
    """The codes that drive the generated filters of one owner.

    Attributes:
        owner: The module whose layers the codes are for, so that another converted network called inside the scope
            does not take them for its own. A layer of it that is called alone does.
        codes: One tensor ``(B, L_f)`` per level of the encoder; ``B`` = 1 shares one image's filters among a batch.
        running: Whether the owner computes inside, with inputs that have been checked. What it then passes to its own
            methods need not be images, or as many.
    """

    owner: nn.Module
    codes: tuple[Tensor, ...]
    running: bool = False


class _Scope(threading.local):
    """The current conditioning of each thread, and those of the scopes around."""

    def __init__(self) -> None:
        # There before the first scope, so that a graph compiled by the first call fits the second one.
        self.conditioning: Conditioning | None = None
        self.outer: tuple[Conditioning | None, ...] = ()


_scope = _Scope()


def current_conditioning() -> Conditioning | None:
    """Return the conditioning of the innermost open scope of this thread, or None."""
    return _scope.conditioning


@contextmanager
def conditioning_scope(conditioning: Conditioning | None) -> Iterator[None]:
    """Make ``conditioning`` the current one of this thread; the previous one returns at the end, errors included."""
    previous, outer = _scope.conditioning, _scope.outer
    _scope.conditioning, _scope.outer = conditioning, (previous, *outer)
    try:
        yield
    finally:
        _scope.conditioning, _scope.outer = previous, outer


def is_running(owner: nn.Module) -> bool:
    """Return whether ``owner`` computes in the current scope."""
    conditioning = current_conditioning()
    return conditioning is not None and conditioning.owner is owner and conditioning.running


def conditioning_of(owner: nn.Module) -> Conditioning | None:
    """Return the conditioning of the innermost scope that is open for ``owner`` in this thread, or None."""
    for conditioning in (_scope.conditioning, *_scope.outer):
        if conditioning is not None and conditioning.owner is owner:
            return conditioning
    return None


def conditioned_parts(model: nn.Module) -> list[nn.Module]:
    """Return the outermost modules in ``model`` that take filters from other images than the input."""
    parts = []
    for child in model.children():
        parts += [child] if hasattr(child, 'conditioned_on') else conditioned_parts(child)
    return parts


@contextmanager
def all_conditioned_on(parts: Iterable[nn.Module], images: Tensor) -> Iterator[None]:
    """Generate the filters of all ``parts`` from ``images``, as their ``conditioned_on`` does."""
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(part.conditioned_on(images))  # type: ignore[operator]
        yield


def given_conditioning(owner: nn.Module, batch: int) -> Conditioning | None:
    """Return the conditioning of an open scope that gives ``owner`` its filters already, or None.

    Raises:
        ValueError: If they are given by neither one image nor as many as ``batch``.
    """
    conditioning = conditioning_of(owner)
    if conditioning is not None and conditioning.codes[0].shape[0] not in (1, batch):
        raise ValueError(
            f'conditioned_on should be given 1 image or one per input, but got {conditioning.codes[0].shape[0]} for '
            f'{batch} inputs.'
        )
    return conditioning


def _carry_conditioning(checkpoint: Callable) -> Callable:
    @wraps(checkpoint)
    def carrying_checkpoint(function: Callable, *args: Any, **kwargs: Any) -> Any:
        scopes = (_scope.conditioning, *_scope.outer)
        codes = [code for conditioning in scopes if conditioning is not None for code in conditioning.codes]
        # A compiled graph recomputes inside of itself, where no other scope can be open.
        if not codes and torch.compiler.is_compiling():
            return checkpoint(function, *args, **kwargs)
        num_codes = len(codes)

        def conditioned_function(*codes_and_args: Any, **function_kwargs: Any) -> Any:
            with _scopes_with(scopes, codes_and_args[:num_codes]):
                return function(*codes_and_args[num_codes:], **function_kwargs)

        return checkpoint(conditioned_function, *codes, *args, **kwargs)

    carrying_checkpoint.carries_conditioning = True  # type: ignore[attr-defined]
    return carrying_checkpoint


@contextmanager
def _scopes_with(scopes: tuple[Conditioning | None, ...], codes: tuple[Tensor, ...]) -> Iterator[None]:
    """Open ``scopes``, innermost first, with ``codes`` in place of theirs, and no other ones in this thread."""
    restored, start = [], 0
    for conditioning in scopes:
        if conditioning is not None:
            end = start + len(conditioning.codes)
            conditioning, start = conditioning._replace(codes=codes[start:end]), end
        restored.append(conditioning)
    previous, outer = _scope.conditioning, _scope.outer
    _scope.conditioning, _scope.outer = restored[0], tuple(restored[1:])
    try:
        yield
    finally:
        _scope.conditioning, _scope.outer = previous, outer


if not hasattr(torch.utils.checkpoint.checkpoint, 'carries_conditioning'):
    torch.utils.checkpoint.checkpoint = _carry_conditioning(torch.utils.checkpoint.checkpoint)
    # What was imported before has bound the original: FSDP's wrapper of modules, by other parts of PyTorch, and
    # MMEngine's activation_checkpointing, by its Runner.
    for _module, _name in (
        ('torch.distributed.algorithms._checkpoint.checkpoint_wrapper', 'torch_utils_checkpoint'),
        ('mmengine.runner.activation_checkpointing', 'checkpoint'),
    ):
        if _module in sys.modules:
            setattr(sys.modules[_module], _name, torch.utils.checkpoint.checkpoint)
