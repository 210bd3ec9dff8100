"""The images of a study, as tensors."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fg_plugin.datasets import CIFAR10InMemory, DigitsInMemory, MNISTInMemory
from fg_plugin.datasets.in_memory import InMemoryDataset
from fg_plugin.studies.augmentation import shifted_and_mirrored
from fg_plugin.studies.variations import VARIATIONS

# As the classical rotated MNIST: so few training images that a network can still be told from a better one.
MNIST_IMAGES = 12_000

# What may be mirrored: no digits.
AUGMENTABLE = ('cifar10', 'cifar10_16')


class Images(NamedTuple):
    """Images and their labels.

    Attributes:
        pixels: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)``.
    """

    pixels: Tensor
    labels: Tensor

    def take(self, positions: Tensor) -> 'Images':
        """Return the images at ``positions`` (n,)."""
        return Images(self.pixels[positions], self.labels[positions])


class StudyData(NamedTuple):
    """What a study trains and tests on.

    Attributes:
        train: Training images.
        test: Test images, or those held out of the training set.
        unseen: Test images with stronger variations than any in training; None without a variation.
        mean: Per channel, of the training images.
        std: Per channel.
        unseen_kinds: Positions ``(n,)`` in ``unseen`` of each kind of variation, where there are several.
        network: The network that learns from it, see ``arms.NETWORKS``.
        augment: Changes the images of a training step, by random numbers of a generator; None leaves them.
    """

    train: Images
    test: Images
    unseen: Images | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unseen_kinds: Mapping[str, Tensor]
    network: str = 'plain'
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None

    @property
    def input_size(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of an image."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width


def data_names() -> list[str]:
    """Return the names that ``load_data`` takes."""
    varied = [f'{base}{suffix}' for base in _LOADERS for suffix in ('', *(f'_{kind}' for kind in VARIATIONS))]
    return [*varied, *(f'{base}_augmented' for base in AUGMENTABLE)]


def load_data(name: str, data_root: str | Path = 'data', *, held_out: bool = False) -> StudyData:
    """Load ``'mnist'``, ``'cifar10'``, ``'cifar10_16'`` (averaged down to 16x16) or ``'digits'``, plain or varied.

    Args:
        name: One of ``data_names()``, such as ``'mnist_rotated'``. Variations are drawn once for each image, by a fixed
            seed: training and test images stay the same for all networks and epochs. Those of ``..._augmented`` are
            plain, and change anew in each step of the training.
        data_root: Folder of the data sets.
        held_out: Test on a part of the training set, which is not trained on, to choose settings by.

    Raises:
        ValueError: For an unknown name.
        FileNotFoundError: If the data set is missing.
    """
    if name not in data_names():
        raise ValueError(f'The data of a study should be one of {", ".join(data_names())}, but got {name!r}.')
    if name.endswith('_augmented'):
        plain = load_data(name.removesuffix('_augmented'), data_root, held_out=held_out)
        return plain._replace(augment=shifted_and_mirrored)
    kind = next((kind for kind in VARIATIONS if name.endswith(f'_{kind}')), None)
    base = name if kind is None else name.removesuffix(f'_{kind}')
    load = _LOADERS[base]
    train, test = (load(Path(data_root), split, held_out) for split in ('train', 'val' if held_out else 'test'))
    unseen: Images | None = None
    unseen_kinds: dict[str, Tensor] = {}
    if kind is not None:
        vary = VARIATIONS[kind]
        pixels, unseen_kinds = vary(test.pixels, _seeded(2), True)
        unseen = test._replace(pixels=pixels)
        train = train._replace(pixels=vary(train.pixels, _seeded(0), False).pixels)
        test = test._replace(pixels=vary(test.pixels, _seeded(1), False).pixels)
    mean, std = (tuple(value.tolist()) for value in (train.pixels.mean((0, 2, 3)), train.pixels.std((0, 2, 3))))
    return StudyData(train, test, unseen, mean, std, unseen_kinds)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _digits(root: Path, split: str, held_out: bool) -> Images:
    return _images(DigitsInMemory(split, val_size=300 if held_out else 0))


def _mnist(root: Path, split: str, held_out: bool) -> Images:
    count = MNIST_IMAGES if split == 'train' else None
    return _images(MNISTInMemory(str(root), split, val_size=5000 if held_out else 0, num_images=count))


def _cifar10(root: Path, split: str, held_out: bool) -> Images:
    return _images(CIFAR10InMemory(str(root / 'cifar10'), split, val_size=5000 if held_out else 0))


def _cifar10_16(root: Path, split: str, held_out: bool) -> Images:
    images = _cifar10(root, split, held_out)
    return images._replace(pixels=F.avg_pool2d(images.pixels, 2))


def _images(data: InMemoryDataset) -> Images:
    return Images(data.images.float() / 255, data.targets['labels'])


_LOADERS: dict[str, Callable[[Path, str, bool], Images]] = {
    'digits': _digits,
    'mnist': _mnist,
    'cifar10': _cifar10,
    'cifar10_16': _cifar10_16,
}
