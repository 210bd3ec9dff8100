"""Names of splits and the part of the training set that is held out for choosing hyperparameters."""

import torch
from torch import Tensor

SPLITS = ('train', 'val', 'test')
_HELD_OUT_SEED = 0


def check_split(split: str) -> str:
    """Return ``split``, or raise :class:`ValueError` naming the splits that exist."""
    if split not in SPLITS:
        raise ValueError(f"split should be 'train', 'val' or 'test', but got {split!r}")
    return split


def held_out_split(num_train: int, val_size: int, split: str) -> Tensor:
    """Divide a training set into 'train' and 'val'.

    The validation part is the last ``val_size`` images of a permutation with a fixed seed, so that 'train' and 'val'
    built with the same ``val_size`` never overlap and no test image is needed to choose hyperparameters.

    Args:
        num_train: Images in the whole training set.
        val_size: Images to hold out; 0 keeps the whole training set.
        split: 'train' or 'val'.

    Returns:
        Sorted ``int64`` positions in the whole training set.

    Raises:
        ValueError: If ``val_size`` is not in ``[0, num_train)``, or is 0 while 'val' is asked for.
    """
    if not 0 <= val_size < num_train:
        raise ValueError(
            f'val_size should be in [0, {num_train - 1}] for {num_train} training images, but got {val_size}'
        )
    if split == 'val' and val_size == 0:
        raise ValueError("split='val' needs val_size >= 1: with val_size=0 nothing is held out; use split='test'?")
    permutation = torch.randperm(num_train, generator=torch.Generator().manual_seed(_HELD_OUT_SEED))
    cut = num_train - val_size
    return (permutation[:cut] if split == 'train' else permutation[cut:]).sort().values
