"""MNIST, held in memory."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.registry import DATASETS
from torchvision.datasets import MNIST

from fg_plugin.datasets.in_memory import BatchTransform, InMemoryDataset
from fg_plugin.datasets.missing_data import main_process_first, missing_data
from fg_plugin.datasets.splits import check_split, held_out_split


@DATASETS.register_module()
class MNISTInMemory(InMemoryDataset):
    """Handwritten digits of MNIST: 60,000 for training, 10,000 for test, ``(1, 28, 28)``, labels 0 to 9.

    Args:
        data_root: Folder that holds (or will hold) ``MNIST/raw/`` with the four official IDX files.
        split: 'train', 'val' (held out of the training set) or 'test'.
        val_size: Number of training images held out as 'val'; 'train' excludes them.
        download: Download the official files when they are missing.
        transforms, indices, num_images: See :class:`InMemoryDataset`.

    Raises:
        FileNotFoundError: If files are missing and cannot be downloaded.
        ValueError: If a file is damaged, or an argument is out of range.
    """

    def __init__(
        self,
        data_root: str = 'data',
        split: str = 'train',
        *,
        val_size: int = 0,
        download: bool = True,
        transforms: Sequence[dict | BatchTransform] | None = None,
        indices: Sequence[int] | None = None,
        num_images: int | None = None,
    ) -> None:
        check_split(split)
        images, labels = _load(Path(data_root), train=split != 'test', download=download)
        if split != 'test':
            keep = held_out_split(len(images), val_size, split)
            images, labels = images[keep], labels[keep]
        super().__init__(
            images.unsqueeze(1),
            {'labels': labels.long()},
            metainfo={'dataset': 'MNIST', 'classes': tuple(str(digit) for digit in range(10))},
            transforms=transforms,
            indices=indices,
            num_images=num_images,
        )


def _load(data_root: Path, *, train: bool, download: bool) -> tuple[torch.Tensor, torch.Tensor]:
    raw = data_root / 'MNIST' / 'raw'
    names = [Path(url).stem for url, _ in MNIST.resources]
    with main_process_first():
        missing = [name for name in names if not (raw / name).is_file()]
        if missing and not download:
            raise _missing(raw, missing, 'download=False was given')
        try:
            data = MNIST(str(data_root), train=train, download=download)
        # A damaged header is a KeyError, a TypeError and more in torchvision.
        except Exception as error:
            if missing:
                raise _missing(raw, missing, f'the download failed: {error}') from error
            raise _damaged(raw, train, 'does not hold what its header announces') from error
    if len(data.data) != len(data.targets):
        raise ValueError(f'{raw} holds {len(data.data)} images but {len(data.targets)} labels; download both again')
    if data.data.shape[1:] != (28, 28) or not ((data.targets >= 0) & (data.targets <= 9)).all():
        raise _damaged(raw, train, 'does not hold images of 28x28 pixels, or labels from 0 to 9')
    return data.data, data.targets


def _damaged(raw: Path, train: bool, how: str) -> ValueError:
    part = 'train' if train else 't10k'
    return ValueError(
        f'an MNIST file is damaged: {raw}/{part}-images-idx3-ubyte or {part}-labels-idx1-ubyte {how}; delete both, '
        'with their .gz, and let them be downloaded again'
    )


def _missing(raw: Path, names: list[str], why: str) -> FileNotFoundError:
    return missing_data(
        f'MNIST is incomplete: {", ".join(names)} not found in {raw} ({why})',
        f'put the four official files (as .gz or unpacked, for instance from {MNIST.mirrors[0]}) into {raw}',
        'configs/demo_digits.py',
    )
