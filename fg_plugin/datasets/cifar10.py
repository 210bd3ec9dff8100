"""CIFAR-10, held in memory."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.registry import DATASETS
from torch import Tensor
from torchvision.datasets import CIFAR10

from fg_plugin.datasets.image_folder import list_image_folder, load_images
from fg_plugin.datasets.in_memory import BatchTransform, InMemoryDataset
from fg_plugin.datasets.missing_data import main_process_first, missing_data
from fg_plugin.datasets.splits import check_split, held_out_split

CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
_IMAGES_A_CLASS = {'train': 5000, 'test': 1000}


@DATASETS.register_module()
class CIFAR10InMemory(InMemoryDataset):
    """CIFAR-10: 50,000 images for training, 10,000 for test, ``(3, 32, 32)``, ten classes.

    Reads either of two layouts under ``data_root``: the official python batches (``cifar-10-batches-py/``), or one
    folder a class (``{train,test}/<class>/*.png``; ordered by class, then by file name), which is decoded once and
    cached as ``{train,test}_cache.npz``. When neither is there, the official archive is downloaded.

    Args:
        data_root: Folder of either layout.
        split: 'train', 'val' (held out of the training set) or 'test'.
        val_size: Number of training images held out as 'val'; 'train' excludes them.
        download: Download the official archive when no data is found.
        allow_partial: Accept class folders with another number of images than the official one.
        skip_corrupt: Leave out images that cannot be decoded, with a warning that counts them.
        transforms, indices, num_images: See :class:`InMemoryDataset`.

    Raises:
        FileNotFoundError: If data is missing or incomplete and cannot be downloaded.
        ValueError: If an image is corrupt or of another size, or an argument is out of range.
    """

    def __init__(
        self,
        data_root: str = 'data/cifar10',
        split: str = 'train',
        *,
        val_size: int = 0,
        download: bool = True,
        allow_partial: bool = False,
        skip_corrupt: bool = False,
        transforms: Sequence[dict | BatchTransform] | None = None,
        indices: Sequence[int] | None = None,
        num_images: int | None = None,
    ) -> None:
        check_split(split)
        root = Path(data_root)
        part = 'test' if split == 'test' else 'train'
        with main_process_first():
            if (root / part).is_dir():
                images, labels = _load_folders(root / part, allow_partial=allow_partial, skip_corrupt=skip_corrupt)
            else:
                images, labels = _load_official(root, part, download=download)
        if split != 'test':
            keep = held_out_split(len(images), val_size, split)
            images, labels = images[keep], labels[keep]
        super().__init__(
            images,
            {'labels': labels},
            metainfo={'dataset': 'CIFAR-10', 'classes': CLASSES},
            transforms=transforms,
            indices=indices,
            num_images=num_images,
        )


def _load_folders(root: Path, *, allow_partial: bool, skip_corrupt: bool) -> tuple[Tensor, Tensor]:
    absent = [name for name in CLASSES if not (root / name).is_dir()]
    if absent:
        raise _missing(root, f'{root} has no folder {", ".join(absent)}')
    names, labels = list_image_folder(root, CLASSES)
    for label, class_name in enumerate(CLASSES):
        count, expected = labels.count(label), _IMAGES_A_CLASS[root.name]
        if count != expected and not allow_partial:
            raise _missing(
                root.parent,
                f'{root / class_name} should hold {expected} images, but holds {count} '
                '(allow_partial=True accepts what is there)',
            )
    if not names:
        raise _missing(root.parent, f'the folders of the classes in {root} hold no images')
    images, kept = load_images(root, names, (32, 32), skip_corrupt=skip_corrupt)
    return torch.from_numpy(images), torch.tensor(labels)[torch.from_numpy(kept)]


def _load_official(root: Path, part: str, *, download: bool) -> tuple[Tensor, Tensor]:
    try:
        data = CIFAR10(str(root), train=part == 'train', download=download)
    except (RuntimeError, OSError) as error:
        why = f'the download failed: {error}' if download else 'download=False was given'
        raise _missing(
            root, f'neither {root}/{CIFAR10.base_folder} (complete and undamaged) nor {root / part} was found ({why})'
        ) from error
    return torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets)


def _missing(root: Path, what: str) -> FileNotFoundError:
    return missing_data(
        f'CIFAR-10 is incomplete: {what}',
        f'unpack {CIFAR10.url} into {root}, or put the images as {{train,test}}/<class>/*.png there',
        'configs/demo_digits.py',
    )
