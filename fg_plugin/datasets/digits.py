"""scikit-learn's bundled handwritten digits, enlarged to the size of MNIST: real images without a download."""

from collections.abc import Sequence

import torch
from mmengine.registry import DATASETS
from torch import Tensor
from torchvision.transforms.v2 import functional

from fg_plugin.datasets.in_memory import BatchTransform, InMemoryDataset
from fg_plugin.datasets.splits import check_split, held_out_split

_TEST_SIZE = 360


@DATASETS.register_module()
class DigitsInMemory(InMemoryDataset):
    """1,797 handwritten digits: 1,437 for training, 360 for test, ``(1, 28, 28)``, labels 0 to 9.

    The originals are 8x8 pixels with 17 grey levels. The split is fixed and has all classes in equal shares.

    Args:
        split: 'train', 'val' (held out of the training set) or 'test'.
        val_size: Number of training images held out as 'val'; 'train' excludes them.
        image_size: Height and width to enlarge to.
        transforms, indices, num_images: See :class:`InMemoryDataset`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        split: str = 'train',
        *,
        val_size: int = 0,
        image_size: int = 28,
        transforms: Sequence[dict | BatchTransform] | None = None,
        indices: Sequence[int] | None = None,
        num_images: int | None = None,
    ) -> None:
        check_split(split)
        if image_size < 8:
            raise ValueError(f'image_size should be at least 8, the size of the originals, but got {image_size}')
        images, labels = _load(train=split != 'test')
        if split != 'test':
            keep = held_out_split(len(images), val_size, split)
            images, labels = images[keep], labels[keep]
        super().__init__(
            functional.resize(images, [image_size, image_size], antialias=True),
            {'labels': labels},
            metainfo={'dataset': 'scikit-learn digits', 'classes': tuple(str(digit) for digit in range(10))},
            transforms=transforms,
            indices=indices,
            num_images=num_images,
        )


def _load(*, train: bool) -> tuple[Tensor, Tensor]:
    # scikit-learn takes a second to import, which a user of another data set should not pay for.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    parts = train_test_split(digits.images, digits.target, test_size=_TEST_SIZE, stratify=digits.target, random_state=0)
    images, labels = (parts[0], parts[2]) if train else (parts[1], parts[3])
    grey = torch.from_numpy(images * (255 / 16)).round().to(torch.uint8)
    return grey.unsqueeze(1), torch.from_numpy(labels).long()
