"""Data sets that live in memory as ``uint8`` and hand out whole batches by one tensor index."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import FUNCTIONS, TRANSFORMS
from torch import Tensor
from torch.utils.data import Dataset, default_collate

Batch = dict[str, Any]
BatchTransform = Callable[[Batch], Batch]


class InMemoryDataset(Dataset):
    """Images and targets held as tensors; a batch is one gather.

    PyTorch's fetcher calls :meth:`__getitems__` with the indices of a whole batch, so that neither decoding nor
    collating happens during training. Use it with ``collate_fn=dict(type='batch_collate')``.

    Args:
        images: ``uint8`` tensor of shape ``(N, C, H, W)``.
        targets: One tensor of shape ``(N, ...)`` per target; a batch carries them in ``data_samples``.
        metainfo: Facts about the data set, such as ``classes``; MMEngine passes them to metrics and visualizers.
        transforms: Configs in MMEngine's ``TRANSFORMS`` or callables, each a function of the whole batch.
        indices: Keep only these images, in this order.
        num_images: Keep only this many images, spread evenly over the data set, so that a subset of a data set
            sorted by class still holds every class.

    Raises:
        ValueError: If images or targets have another shape, type or length than described, or if the requested
            subset does not exist.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Mapping[str, Tensor],
        *,
        metainfo: Mapping[str, Any] | None = None,
        transforms: Sequence[dict | BatchTransform] | None = None,
        indices: Sequence[int] | None = None,
        num_images: int | None = None,
    ) -> None:
        _check_tensors(images, targets)
        keep = _subset(len(images), indices, num_images)
        self.images = images if keep is None else images[keep]
        self.targets = {name: target if keep is None else target[keep] for name, target in targets.items()}
        self.metainfo = dict(metainfo or {})
        self.transforms: list[BatchTransform] = [
            TRANSFORMS.build(transform) if isinstance(transform, dict) else transform for transform in transforms or []
        ]

    def full_init(self) -> None:
        """Do nothing: MMEngine's wrappers of data sets ask for it, but the images are in memory already."""

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class of an image as a list, for MMEngine's ``ClassBalancedDataset``.

        Raises:
            ValueError: If the images have no classes.
        """
        if 'labels' not in self.targets:
            raise ValueError(f'images should have labels to be balanced by class, but have {sorted(self.targets)}')
        return [int(self.targets['labels'][idx])]

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return one batch.

        Args:
            indices: ``B`` positions in this data set.

        Returns:
            ``dict(inputs, data_samples)``: ``inputs`` is ``uint8`` of shape ``(B, C, H, W)``; ``data_samples`` holds
            every target with leading dimension ``B`` and ``index``, the ``int64`` positions themselves.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        data_samples = {name: target[index] for name, target in self.targets.items()}
        batch: Batch = {'inputs': self.images[index], 'data_samples': {**data_samples, 'index': index}}
        for transform in self.transforms:
            batch = transform(batch)
        return batch

    def __getitem__(self, index: int) -> Batch:
        """Return one sample: the same dict as a batch, without the leading dimension."""
        if not -len(self) <= index < len(self):
            raise IndexError(f'index should be in [{-len(self)}, {len(self) - 1}], but got {index}')
        batch = self.__getitems__([index % len(self)])
        data_samples = {name: target[0] for name, target in batch['data_samples'].items()}
        return {'inputs': batch['inputs'][0], 'data_samples': data_samples}


@FUNCTIONS.register_module()
def batch_collate(batch: Batch | list[Batch]) -> Batch:
    """Pass a batch made by ``__getitems__`` through; stack a list of single samples (for wrapped data sets)."""
    return batch if isinstance(batch, dict) else default_collate(batch)


def _check_tensors(images: Tensor, targets: Mapping[str, Tensor]) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            'images should be a uint8 tensor of shape (N, C, H, W), but got '
            f'{images.dtype} of shape {tuple(images.shape)}'
        )
    if len(images) == 0:
        raise ValueError('images should hold at least one image, but got none')
    if 'index' in targets:
        raise ValueError("targets should not be named 'index': a batch carries the positions under that name")
    for name, target in targets.items():
        if len(target) != len(images):
            raise ValueError(f'targets[{name!r}] should have one entry an image ({len(images)}), but got {len(target)}')


def _subset(total: int, indices: Sequence[int] | None, num_images: int | None) -> Tensor | None:
    if indices is not None and num_images is not None:
        raise ValueError('give either indices or num_images, not both: each names a subset')
    if num_images is not None:
        if not 1 <= num_images <= total:
            raise ValueError(f'num_images should be in [1, {total}], the size of the data set, but got {num_images}')
        return torch.arange(num_images) * total // num_images
    if indices is None:
        return None
    keep = torch.as_tensor(indices, dtype=torch.int64)
    if len(keep) == 0:
        raise ValueError('indices should name at least one image, but it is empty')
    if int(keep.min()) < 0 or int(keep.max()) >= total:
        raise ValueError(
            f'indices should be in [0, {total - 1}], but they range from {int(keep.min())} to {int(keep.max())}'
        )
    return keep
