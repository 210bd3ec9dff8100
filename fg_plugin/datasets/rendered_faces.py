"""Drawn faces with five landmarks in MTFL's format: the landmark nets train on them without a download."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import DATASETS
from rich.progress import track

from fg_plugin.datasets.face_renderer import render_face
from fg_plugin.datasets.in_memory import BatchTransform, InMemoryDataset
from fg_plugin.datasets.landmark_names import LANDMARK_NAMES
from fg_plugin.datasets.splits import SPLITS, check_split

_SMALLEST_IMAGE = 32


@DATASETS.register_module()
class RenderedFaces(InMemoryDataset):
    """Faces drawn by :func:`render_face`, ``(3, image_size, image_size)``, with landmarks as in ``MTFLLandmarks``.

    Face ``i`` depends on ``seed``, ``split`` and ``i`` only, so that a larger data set begins with the smaller one,
    and the splits have no face in common.

    Args:
        num_images: Number of faces.
        seed: Another seed draws other faces.
        split: 'train', 'val' or 'test'.
        image_size: Height and width in pixels, at least 32.
        max_rotation: Faces are rolled by up to this many degrees either way; 0 for upright ones, as in D-Align.
        transforms: See :class:`InMemoryDataset`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        num_images: int = 2000,
        seed: int = 0,
        split: str = 'train',
        *,
        image_size: int = 64,
        max_rotation: float = 45.0,
        transforms: Sequence[dict | BatchTransform] | None = None,
    ) -> None:
        check_split(split)
        if num_images < 1:
            raise ValueError(f'num_images should be at least 1, but got {num_images}')
        if image_size < _SMALLEST_IMAGE:
            raise ValueError(f'image_size should be at least {_SMALLEST_IMAGE} to show a face, but got {image_size}')
        if not 0 <= max_rotation <= 180:
            raise ValueError(f'max_rotation should be in [0, 180] degrees, but got {max_rotation}')
        images = np.empty((num_images, 3, image_size, image_size), dtype=np.uint8)
        landmarks = np.empty((num_images, len(LANDMARK_NAMES), 2), dtype=np.float32)
        for index in track(range(num_images), description=f'Drawing faces ({split})', transient=True):
            random = np.random.default_rng([seed, SPLITS.index(split), index])
            face = render_face(random, image_size, max_rotation)
            images[index], landmarks[index] = face.image, face.landmarks
        super().__init__(
            torch.from_numpy(images),
            {'landmarks': torch.from_numpy(landmarks)},
            metainfo={'dataset': 'rendered faces', 'landmark_names': LANDMARK_NAMES},
            transforms=transforms,
        )
