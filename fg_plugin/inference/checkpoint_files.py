"""Files that hold weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

METADATA_KEY = 'fg_plugin'
"""Where the header of a safetensors file holds, as JSON, what ``fg_plugin.export`` says about the model."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, a state dict or a dict with one as ``'state_dict'``, without running its code.

    Raises:
        ValueError: If the file is no checkpoint.
    """
    with unreadable_checkpoint_error(path):
        if path.suffix == '.safetensors':
            return load_file(path)
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(checkpoint, dict):
        raise ValueError(f'checkpoint should hold a state dict, but {path} holds a {type(checkpoint).__name__}')
    return checkpoint


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what ``fg_plugin.export`` wrote about the model into a safetensors file, or nothing for other files."""
    if path.suffix != '.safetensors':
        return {}
    with unreadable_checkpoint_error(path), safe_open(path, 'pt') as file:
        return json.loads((file.metadata() or {}).get(METADATA_KEY, '{}'))


@contextmanager
def unreadable_checkpoint_error(path: Path) -> Iterator[None]:
    """Turn what reading a damaged or foreign file raises into an error that names the file."""
    try:
        yield
    except (RuntimeError, EOFError, UnpicklingError, SafetensorError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f'checkpoint should be a file of torch.save or safetensors that holds weights only, but {path} cannot be '
            f'read: {reason}'
        ) from error
