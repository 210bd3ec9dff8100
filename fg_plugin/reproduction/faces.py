"""Test faces of MTFL with the landmarks that a trained network predicts."""

from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fg_plugin.datasets.mtfl import MTFLLandmarks
from fg_plugin.inference.loaded_model import LoadedModel

_BATCH_SIZE = 100


class Faces(NamedTuple):
    """Test faces with predicted landmarks.

    Attributes:
        images: uint8 ``(n, C, H, W)``.
        predicted: ``(n, K, 2)`` points (x, y) in pixels.
        truth: ``(n, K, 2)`` points.
        angles: Rotation of each face in degrees, ``(n,)``; zero in D-Align.
        names: Their names in MTFL's annotation file.
    """

    images: Tensor
    predicted: Tensor
    truth: Tensor
    angles: Tensor
    names: list[str]

    def distances(self, points: Tensor) -> Tensor:
        """Return the distances of ``points`` (n, ..., 2) from all true landmarks, ``(n, ..., K)``, in percent.

        They are relative to the distance of the true eye centres.
        """
        truth = self.truth.view(len(self.truth), *[1] * (points.ndim - 2), *self.truth.shape[1:])
        interocular = torch.linalg.vector_norm(self.truth[:, 0] - self.truth[:, 1], dim=-1)
        distances = torch.linalg.vector_norm(points.unsqueeze(-2) - truth, dim=-1)
        return 100 * distances / interocular.view(-1, *[1] * (distances.ndim - 1))

    def errors(self) -> Tensor:
        """Return the error of each landmark, ``(n, K)``, in percent of the interocular distance."""
        return self.distances(self.predicted).diagonal(dim1=1, dim2=2)


@torch.no_grad()
def predict_faces(loaded: LoadedModel, variant: str, data_root: Path, filters_of: Tensor | None = None) -> Faces:
    """Predict the landmarks of MTFL's test faces.

    Args:
        loaded: The network.
        variant: 'align' for D-Align, or 'rot' for D-Rot.
        data_root: The prepared MTFL.
        filters_of: uint8 images ``(n, C, H, W)``, one for each face, that give it its filters; None for the face
            itself.

    Raises:
        FileNotFoundError: If the data are missing.
    """
    data = MTFLLandmarks(str(data_root), variant, 'test')
    with np.load(data_root / f'{variant}.npz') as archive:
        places = archive['test']
        names, angles = archive['names'][places].tolist(), archive['angles'][places]
    predicted = []
    for start in range(0, len(data.images), _BATCH_SIZE):
        batch = slice(start, start + _BATCH_SIZE)
        with nullcontext() if filters_of is None else loaded.conditioned_on(filters_of[batch].float() / 255):
            predicted.append(loaded.answers(data.images[batch].float() / 255))
    return Faces(
        data.images,
        torch.cat(predicted).double(),
        data.targets['landmarks'].double(),
        torch.from_numpy(angles if variant == 'rot' else np.zeros_like(angles)),
        names,
    )
