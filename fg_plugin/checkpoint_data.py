"""Reads checkpoints as data, and says what is wrong with a file that is none."""

import errno
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def checkpoint_errors(name: str) -> Iterator[None]:
    """Turn what reading a damaged, foreign or hostile file raises into a ``ValueError`` that names it."""
    try:
        yield
    except Exception as error:  # A damaged file can end in any exception.
        # What torch raises for half a file is an OSError, too.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        # timm puts an error of its own around the refusal.
        refusal = error.__cause__ if isinstance(error.__cause__, pickle.UnpicklingError) else error
        reason = _refused(refusal) if isinstance(refusal, pickle.UnpicklingError) else None
        if reason is None:
            raise _unreadable(name, refusal) from error
        raise ValueError(
            f'a checkpoint should hold tensors and plain values only, but {name} asks for more, which could be any '
            f'code; nothing of it was run ({reason}). Where you trust the file, save its weights anew with '
            'safetensors, or allow its classes by torch.serialization.add_safe_globals in a module of custom_imports'
        ) from error


def as_data(name: str, load: Callable[[], Any]) -> dict[str, Any]:
    """Return what ``load`` reads, without what MMEngine would run of it.

    Args:
        name: Of the file, for the errors.
        load: Reads the file without running anything.

    Raises:
        ValueError: If the file is not a whole checkpoint, or asks for code to be run.
    """
    with checkpoint_errors(name):
        checkpoint = load()
    if not isinstance(checkpoint, dict):
        raise ValueError(f'a checkpoint should hold a state dict, but {name} holds a {type(checkpoint).__name__}')
    if isinstance(checkpoint.get('meta'), dict):
        # MMEngine would execute it; its own checkpoints name theirs 'cfg', which it only keeps.
        checkpoint['meta'].pop('config', None)
    return checkpoint


def _unreadable(name: str, error: BaseException) -> ValueError:
    return ValueError(
        f'a checkpoint should be a whole file of torch.save or safetensors, but {name} is damaged or something else '
        f'({type(error).__name__}: {str(error).splitlines()[0] if str(error) else "it ends too early"})'
    )


def _refused(error: pickle.UnpicklingError) -> str | None:
    """What of the file was refused, or None if it is no pickle at all."""
    # The rest of torch's message is advice to turn the protection off.
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if 'GLOBAL' in line or 'should ask only' in line), None)
