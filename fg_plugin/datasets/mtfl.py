"""MTFL's faces with five landmarks, as D-Align and D-Rot (section 4.2), held in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DATASETS

from fg_plugin.datasets.in_memory import BatchTransform, InMemoryDataset
from fg_plugin.datasets.landmark_names import LANDMARK_NAMES
from fg_plugin.datasets.missing_data import missing_data
from fg_plugin.datasets.splits import check_split, held_out_split

VARIANTS = {'align': 'D-Align', 'rot': 'D-Rot'}


@DATASETS.register_module()
class MTFLLandmarks(InMemoryDataset):
    """Faces of MTFL, ``(3, 64, 64)``, each with five landmarks: 9,000 for training, 1,000 for test.

    A batch carries ``landmarks``, ``float32`` of shape ``(B, 5, 2)``: x, y in pixels of the crop, in the order LE,
    RE, NT, LMC, RMC, centre of the top-left pixel at (0, 0). ``tools/prepare_mtfl.py`` makes the files.

    Args:
        data_root: Folder with ``align.npz`` and ``rot.npz``.
        variant: 'align' for D-Align, or 'rot' for D-Rot: every image of D-Align rotated, by up to 45 degrees unless the
            files were made with other ``--angles``.
        split: 'train', 'val' (held out of the training set) or 'test'; the same faces in both variants.
        val_size: Number of training images held out as 'val'; 'train' excludes them.
        transforms, indices, num_images: See :class:`InMemoryDataset`.

    Raises:
        FileNotFoundError: If the file of the variant is missing.
        ValueError: If the file is damaged, is not of the same run as the other variant's, or an argument is out of
            range.
    """

    def __init__(
        self,
        data_root: str = 'data/mtfl_64',
        variant: str = 'align',
        split: str = 'train',
        *,
        val_size: int = 0,
        transforms: Sequence[dict | BatchTransform] | None = None,
        indices: Sequence[int] | None = None,
        num_images: int | None = None,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant should be 'align' or 'rot', but got {variant!r}")
        check_split(split)
        images, landmarks, positions = _load(Path(data_root) / f'{variant}.npz', train=split != 'test')
        if split != 'test':
            positions = positions[held_out_split(len(positions), val_size, split).numpy()]
        super().__init__(
            torch.from_numpy(images[positions]),
            {'landmarks': torch.from_numpy(landmarks[positions])},
            metainfo={'dataset': f'MTFL {VARIANTS[variant]}', 'landmark_names': LANDMARK_NAMES},
            transforms=transforms,
            indices=indices,
            num_images=num_images,
        )


def _load(path: Path, *, train: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not path.is_file():
        raise missing_data(
            f'MTFL is not prepared: {path} not found',
            f'run python tools/prepare_mtfl.py --mtfl-root data/MTFL --out-dir {path.parent} '
            '(with --download where the official archive is not unpacked yet)',
            'configs/demo_unet_faces.py',
        )
    images, landmarks, *splits = _read(path, 'images', 'landmarks', 'train', 'test')
    _check(path, images, landmarks, splits)
    _check_twins(path, splits)
    return images, landmarks, splits[0 if train else 1]


def _read(path: Path, *names: str) -> list[np.ndarray]:
    # Opened first, so that a file that may not be read is not called damaged.
    with path.open('rb') as file:
        try:
            with np.load(file) as archive:
                return [archive[name] for name in names]
        # A damaged header of an array is any error of Python's tokenizer, one of the archive any of zipfile's.
        except Exception as error:
            raise _damaged(path, str(error) or type(error).__name__) from error


def _check(path: Path, images: np.ndarray, landmarks: np.ndarray, splits: Sequence[np.ndarray]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise _damaged(path, f'images should be uint8 (N, C, H, W), but are {images.dtype} {images.shape}')
    if landmarks.dtype.kind != 'f' or landmarks.shape != (len(images), len(LANDMARK_NAMES), 2):
        shape = (len(images), len(LANDMARK_NAMES), 2)
        raise _damaged(path, f'landmarks should be float32 {shape}, but are {landmarks.dtype} {landmarks.shape}')
    for name, positions in zip(('train', 'test'), splits, strict=True):
        if (
            positions.dtype.kind not in 'iu'
            or positions.ndim != 1
            or (positions < 0).any()
            or (positions >= len(images)).any()
        ):
            raise _damaged(path, f'{name} should hold positions of its {len(images)} images')


def _check_twins(path: Path, splits: Sequence[np.ndarray]) -> None:
    """Check that the file of the other variant, where there is one, has the same faces in its splits."""
    for variant in VARIANTS:
        twin = path.with_name(f'{variant}.npz')
        try:
            others = splits if twin == path else _read(twin, 'train', 'test')
        except (OSError, ValueError):
            continue  # it is refused where it is used itself
        if not all(map(np.array_equal, splits, others)):
            raise ValueError(
                f'{path} and {twin} should have the same faces for training and test, but they are not of the same '
                'run: run tools/prepare_mtfl.py again'
            )


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f'{path} is damaged ({why}): run tools/prepare_mtfl.py again')
