"""Loads checkpoints as data: nothing in a file is run, whatever it holds.

mmengine 0.10.7 leaves ``weights_only`` to the default of ``torch.load``, which an environment variable turns off, and
to that of ``torch.hub``, which is off; onedl-mmengine 0.10.12 loads once more without it where the restricted way
fails. Both also execute the text of ``meta['config']`` of a resumed checkpoint as a config file. Neither reads
safetensors.
"""

from pathlib import Path
from typing import Any

import torch
from mmengine.runner import checkpoint as runner_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import load_file

from fg_plugin.checkpoint_data import as_data, checkpoint_errors


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
    return as_data(str(path), lambda: torch.load(path, map_location=map_location, weights_only=True))


def load_url(url: str, *args: Any, **kwargs: Any) -> Any:
    """Download a file of ``torch.save`` and load it; the arguments are those of ``torch.hub``'s function.

    Raises:
        ValueError: If it is not a whole checkpoint, or asks for code to be run.
    """
    return as_data(url, lambda: torch.hub.load_state_dict_from_url(url, *args, **{**kwargs, 'weights_only': True}))


def restrict_checkpoint_loading() -> None:
    """Let MMEngine's ``CheckpointLoader`` use the functions of this module; calling it again changes nothing."""
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    # All its ways of downloading end there.
    runner_checkpoint.load_url = load_url


def _load_safetensors(path: Path, map_location: Any) -> dict[str, torch.Tensor]:
    with checkpoint_errors(str(path)):
        tensors = load_file(path)
    return tensors if map_location is None else {name: tensor.to(map_location) for name, tensor in tensors.items()}
