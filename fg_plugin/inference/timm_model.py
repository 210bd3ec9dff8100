"""A trained model by its timm name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from timm.data import ImageNetInfo, create_transform, infer_imagenet_subset, resolve_model_data_config
from timm.models import get_arch_name
from torch import nn

from fg_plugin.checkpoint_data import checkpoint_errors
from fg_plugin.generated_model import GeneratedModel
from fg_plugin.host_input import host_input
from fg_plugin.inference.checkpoint_files import read_metadata
from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.tasks import Task, output_names, run_once
from fg_plugin.zoo import host_architecture


def load_timm_model(
    name: str, checkpoint: Path, options: dict[str, Any], input_size: Sequence[int] | None
) -> LoadedModel:
    """Load ``name`` with the weights of ``checkpoint``, see ``load_model``.

    A file that ``fg_plugin.export`` wrote holds the options, and those given here override them. It also holds the
    pretrained tag of the name, whose classes and normalisation are the network's where ``name`` has none.
    """
    host_architecture(name)
    stored = read_metadata(checkpoint)
    source = stored.get('source', name)
    if get_arch_name(source) != get_arch_name(name):
        raise ValueError(f'checkpoint should belong to {name}, but {checkpoint} was exported from {source}')
    if get_arch_name(name) == name:
        name = source
    options = {**stored.get('options', {}), **options}
    model = timm.create_model(name, **options).eval()
    with checkpoint_errors(str(checkpoint)):
        state_dict = timm.models.load_state_dict(str(checkpoint))
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        given = ', '.join(f'{key}={value!r}' for key, value in options.items()) or 'no options'
        raise ValueError(
            f'the checkpoint should fit {name} as it was created here ({given}), but {checkpoint} does not; give the '
            f'options that it was trained with, such as num_classes=10. {_first_differences(error)}'
        ) from error
    config = resolve_model_data_config(model)
    # The data config is that of the pretrained model, whatever in_chans this one has.
    channels = timm.models.get_model_input_config(model)['input_size'][0]
    size = (channels, *(input_size or config['input_size'][1:]))
    host = host_input(model, size, options.get('fg_mean'), options.get('fg_std'))
    task: Task = 'classification' if getattr(model, 'num_classes', 0) else 'features'
    transform = create_transform(**{**config, 'input_size': size, 'mean': host.mean, 'std': host.std})
    return LoadedModel(
        source=name,
        options=options,
        model=model,
        network=model,
        task=task,
        output_names=output_names(task, run_once(model, size, name)),
        input_size=size,
        transform=transform,
        normalise=lambda inputs: inputs,
        hosts=[model] if isinstance(model, GeneratedModel) else [],
        classes=stored.get('classes') or (_imagenet_classes(model) if task == 'classification' else None),
    )


def _imagenet_classes(model: nn.Module) -> tuple[str, ...] | None:
    """Return the names of ImageNet's classes for a model with as many outputs as one of its common subsets."""
    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(model.num_classes))  # type: ignore[arg-type]


def _first_differences(error: RuntimeError, shown: int = 300) -> str:
    text = ' '.join(str(error).split())
    return text if len(text) <= shown else f'{text[:shown]}...'
