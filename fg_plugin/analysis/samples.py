"""The images that an analysis looks at, and what is known of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fg_plugin.inference import FailedImage, LoadedModel
from fg_plugin.inference.batches import input_batches


class Samples(NamedTuple):
    """Inputs of a model.

    Attributes:
        inputs: ``(N, C, H, W)``.
        origin: Where they are from.
        labels: Their classes ``(N,)``, if known.
        landmarks: Their landmarks ``(N, K, 2)`` in pixels of the input, if known.
        failed: Files that could not be read.
    """

    inputs: Tensor
    origin: str
    labels: Tensor | None = None
    landmarks: Tensor | None = None
    failed: Sequence[FailedImage] = ()


def samples_from_files(loaded: LoadedModel, paths: Sequence[Path], num_images: int) -> Samples:
    """Read images, at most ``num_images`` of them and spread evenly.

    The classes are known if each image lies in a folder with the name of its class, or each in one with its number: of
    as many classes as the model has.

    Raises:
        ValueError: If no file can be read.
    """
    kept = [paths[position] for position in spread(len(paths), num_images)]
    batches, failed = input_batches(loaded, kept)
    unread = {failure.path for failure in failed}
    folders = [path.parent.name for path in kept if path not in unread]
    labels = _labels(loaded, folders, batches[0][:1]) if loaded.task == 'classification' else None
    return Samples(torch.cat(batches), f'{len(folders)} image files', labels, failed=failed)


def samples_from_config(loaded: LoadedModel, num_images: int) -> Samples:
    """Take images of the config's test set, at most ``num_images`` of them and spread evenly.

    Raises:
        ValueError: If the model has no config, or its test set holds no images of one size.
    """
    if not loaded.source.endswith('.py'):
        raise ValueError(f'Images should be given (--images), because {loaded.source} has no config with a test set.')
    # Imported here: timm's names work without MMEngine.
    from fg_plugin.inference.config_model import build_test_set

    dataset = build_test_set(loaded)
    kept = spread(len(dataset), num_images)
    batch = dataset.__getitems__(kept) if hasattr(dataset, '__getitems__') else None
    if (
        batch is None
        or not isinstance(batch.get('inputs'), Tensor)
        or tuple(batch['inputs'].shape[1:]) != tuple(loaded.input_size)
    ):
        raise ValueError(
            f'Images should be given (--images), because the test set of {loaded.source} does not hand out batches of '
            f'images of the size {tuple(loaded.input_size)}.'
        )
    inputs, targets = batch['inputs'], batch['data_samples']
    pixels = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
    origin = f'{len(kept)} of {len(dataset)} images of the test set'
    return Samples(pixels.to(loaded.device), origin, targets.get('labels'), targets.get('landmarks'))


@torch.no_grad()
def _labels(loaded: LoadedModel, folders: Sequence[str], example: Tensor) -> Tensor | None:
    """Return the classes that folders stand for, by their names or else by their numbers; None if neither fits all.

    ``example`` is a batch of inputs, as only the logits tell the number of classes of any network.
    """
    names = [] if loaded.classes is None else list(map(str, loaded.classes))
    # A single logit tells two classes apart.
    numbers = [str(number) for number in range(max(2, loaded.answers(example).shape[1]))]
    for known in (names, numbers):
        if {*folders} <= {*known}:
            label = {name: position for position, name in enumerate(known)}
            return torch.tensor([label[folder] for folder in folders])
    return None


def spread(count: int, wanted: int) -> list[int]:
    """Return at most ``wanted`` of ``count`` positions, evenly spread.

    Raises:
        ValueError: If ``wanted`` is less than 2, which no statistics can be made of.
    """
    if wanted < 2:
        raise ValueError(f'num_images should be at least 2, but got {wanted}')
    if count <= wanted:
        return list(range(count))
    return [position * count // wanted for position in range(wanted)]
