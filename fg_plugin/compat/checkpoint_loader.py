"""Loads checkpoints as data: nothing in a file is run, whatever it holds.

mmengine 0.10.7 leaves ``weights_only`` to the default of ``torch.load``, which an environment variable turns off, and
to that of ``torch.hub``, which is off; onedl-mmengine 0.10.12 loads once more without it where the restricted way
fails. Both also execute the text of ``meta['config']`` of a resumed checkpoint as a config file. Neither reads
safetensors.
"""

import errno
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import checkpoint as runner_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a file of ``torch.save``, or one of safetensors as ``dict(state_dict=...)``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not a whole checkpoint, or asks for code to be run.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'{filename} can not be found.')
    if path.suffix == '.safetensors':
        return {'state_dict': _load_safetensors(path, map_location)}
    return _as_data(str(path), lambda: torch.load(path, map_location=map_location, weights_only=True))


def load_url(url: str, *args: Any, **kwargs: Any) -> Any:
    """Download a file of ``torch.save`` and load it; the arguments are those of ``torch.hub``'s function.

    Raises:
        ValueError: If it is not a whole checkpoint, or asks for code to be run.
    """
    return _as_data(url, lambda: torch.hub.load_state_dict_from_url(url, *args, **{**kwargs, 'weights_only': True}))


def restrict_checkpoint_loading() -> None:
    """Let MMEngine's ``CheckpointLoader`` use the functions of this module; calling it again changes nothing."""
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    # All its ways of downloading end there.
    runner_checkpoint.load_url = load_url


def _as_data(name: str, load: Callable[[], Any]) -> Any:
    try:
        checkpoint = load()
    except pickle.UnpicklingError as error:
        reason = _refused(error)
        if reason is None:
            raise _unreadable(name, error) from error
        raise ValueError(
            f'a checkpoint should hold tensors and plain values only, but {name} asks for more, which could be any '
            f'code; nothing of it was run ({reason}). Where you trust the file, save its weights anew with '
            'safetensors, or allow its classes by torch.serialization.add_safe_globals in a module of custom_imports'
        ) from error
    except OSError as error:
        # What torch raises for half a file.
        if error.errno != errno.EINVAL:
            raise
        raise _unreadable(name, error) from error
    except Exception as error:  # A damaged file can end in any exception.
        raise _unreadable(name, error) from error
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        # MMEngine would execute it; its own checkpoints name theirs 'cfg', which it only keeps.
        checkpoint['meta'].pop('config', None)
    return checkpoint


def _load_safetensors(path: Path, map_location: Any) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise _unreadable(str(path), error) from error
    return tensors if map_location is None else {name: tensor.to(map_location) for name, tensor in tensors.items()}


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(
        f'a checkpoint should be a whole file of torch.save or safetensors, but {name} is damaged or something else '
        f'({type(error).__name__}: {str(error).splitlines()[0] if str(error) else "it ends too early"})'
    )


def _refused(error: pickle.UnpicklingError) -> str | None:
    """What of the file was refused, or None if it is no pickle at all."""
    # The rest of torch's message is advice to turn the protection off.
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if 'GLOBAL' in line or 'should ask only' in line), None)
