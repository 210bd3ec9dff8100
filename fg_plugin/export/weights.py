"""The state dict as safetensors, with what is needed to build its model again."""

import json
from importlib.metadata import version
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from fg_plugin.inference import LoadedModel
from fg_plugin.inference.checkpoint_files import METADATA_KEY


def weights_bytes(loaded: LoadedModel) -> tuple[bytes, str]:
    """Return the state dict of the model as a safetensors file, and what its check says.

    ``timm.create_model(name, checkpoint_path=...)`` and ``fg_plugin.inference.load_model`` load it.

    Raises:
        ValueError: If the options that the model was built with cannot be written as JSON.
    """
    tensors = separate_tensors(loaded.model)
    content = save(tensors, {'format': 'pt', METADATA_KEY: describe_model(loaded)})
    reloaded = load(content)
    if not all(torch.equal(reloaded[name], value) for name, value in tensors.items()):
        raise ValueError('the weights should be the same after reloading, but they are not: are there NaN among them?')
    return content, f'{len(tensors)} tensors, the same after reloading'


def separate_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict on the CPU with a memory of its own for each tensor, as safetensors demands."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def describe_model(loaded: LoadedModel, **facts: Any) -> str:
    """Return as JSON what ``loaded`` was built from."""
    about = {'version': version('fg-plugin'), 'source': loaded.source, 'options': loaded.options}
    try:
        return json.dumps({**about, 'classes': class_names(loaded), **facts})
    except TypeError as error:
        raise ValueError(f'options should be numbers, texts, lists and dicts, but got {loaded.options}') from error


def class_names(loaded: LoadedModel) -> list[str] | None:
    """Return the names of the classes as texts, which JSON holds, if they are known."""
    return None if loaded.classes is None else list(map(str, loaded.classes))
