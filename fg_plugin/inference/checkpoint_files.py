"""Files that hold weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fg_plugin.checkpoint_data import as_data, checkpoint_errors

METADATA_KEY = 'fg_plugin'
"""Where the header of a safetensors file holds, as JSON, what ``fg_plugin.export`` says about the model."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, a state dict or a dict with one as ``'state_dict'``, without running its code.

    Raises:
        ValueError: If the file is no checkpoint.
    """
    if path.suffix == '.safetensors':
        return as_data(str(path), lambda: load_file(path))
    return as_data(str(path), lambda: torch.load(path, map_location='cpu', weights_only=True))


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what ``fg_plugin.export`` wrote about the model into a safetensors file, or nothing for other files."""
    if path.suffix != '.safetensors':
        return {}
    with checkpoint_errors(str(path)), safe_open(path, 'pt') as file:
        return json.loads((file.metadata() or {}).get(METADATA_KEY, '{}'))
