"""From a config or a timm name and a checkpoint to a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.tasks import run_once
from fg_plugin.inference.timm_model import load_timm_model


def load_model(
    source: str | Path,
    checkpoint: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    input_size: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    device: str | torch.device = 'cpu',
) -> LoadedModel:
    """Load a trained model for evaluation.

    Args:
        source: Path of an MMEngine config (``.py``), or a timm name such as ``'fg_resnet18'``.
        checkpoint: Its weights: a checkpoint of the training, or what ``fg_plugin.export`` wrote as safetensors.
        options: Keyword arguments of ``timm.create_model`` (``num_classes=10``), or settings that override the
            config's (``{'model.backbone.n': 64}``).
        input_size: ``(H, W)`` that images are resized to; None for ``image_size`` of the config's data preprocessor, or
            that of the timm model.
        classes: Names of the classes; None for those that the checkpoint or timm knows.
        device: Where to run.

    Raises:
        FileNotFoundError: If the config or the checkpoint does not exist.
        ModuleNotFoundError: For a config without MMEngine (the extra is named).
        ValueError: If the checkpoint or the number of classes does not fit the model, or the name is unknown.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint should be an existing file, but got {path}')
    if str(source).endswith('.py'):
        # Imported here: timm's names work without MMEngine. The first says how to install it.
        import fg_plugin.registration  # noqa: F401
        from fg_plugin.inference.config_model import load_config_model

        loaded = load_config_model(Path(source), path, dict(options or {}), input_size)
    else:
        loaded = load_timm_model(str(source), path, dict(options or {}), input_size)
    if classes is not None:
        _check_classes(loaded, classes)
        loaded.classes = tuple(classes)
    loaded.network.to(device).eval()
    return loaded


def _check_classes(loaded: LoadedModel, classes: Sequence[str]) -> None:
    if loaded.task not in ('classification', 'segmentation'):
        return
    logits = run_once(loaded.network.eval(), loaded.input_size, loaded.source)[0]
    # A single logit tells two classes apart.
    count = max(logits.shape[1], 2)
    if len(classes) != count:
        raise ValueError(
            f'classes should name each of the {count} classes of {loaded.source}, but there are {len(classes)} names'
        )
