from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fg_plugin.reproduction.faces import predict_faces

RIGHT, MISPLACED, ALL_WRONG = range(3)


def test_errors_are_relative_to_the_interocular_distance(faces):
    errors = faces.errors()
    assert errors[RIGHT].tolist() == [0.0] * 5
    assert errors[MISPLACED].tolist() == pytest.approx([100 * 401**0.5 / 20, 0, 0, 0, 0])
    assert errors[ALL_WRONG].tolist() == pytest.approx([20.0] * 5)


class GreyValues:
    """Predicts the grey values of the pixels of the image and of the one that gives the filters."""

    giver = None

    @contextmanager
    def conditioned_on(self, images):
        self.giver = images
        yield
        self.giver = None

    def answers(self, images):
        values = [(images if giver is None else giver)[:, 0, :5, 0] for giver in (None, self.giver)]
        return 255 * torch.stack(values, 2)


def test_each_face_has_its_giver(write_faces, tmp_path):
    # More than a batch.
    write_faces(tmp_path, np.linspace(-44, 44, 232))
    own = predict_faces(GreyValues(), 'rot', tmp_path)
    assert len(own.images) == 230
    pixels = own.images[:, 0, :5, 0].double()
    torch.testing.assert_close(own.predicted, torch.stack([pixels, pixels], 2))
    others = own.images.flip(0)
    predicted = predict_faces(GreyValues(), 'rot', tmp_path, filters_of=others).predicted
    torch.testing.assert_close(predicted, torch.stack([pixels, pixels.flip(0)], 2))
