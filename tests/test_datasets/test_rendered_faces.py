import re

import pytest
import torch

from fg_plugin.datasets import RenderedFaces


def test_format_is_that_of_mtfl():
    faces = RenderedFaces(6)
    batch = faces.__getitems__([0, 5])
    assert batch['inputs'].shape == (2, 3, 64, 64)
    assert batch['inputs'].dtype == torch.uint8
    assert batch['data_samples']['landmarks'].shape == (2, 5, 2)
    assert batch['data_samples']['landmarks'].dtype == torch.float32
    assert faces.metainfo['landmark_names'] == ('LE', 'RE', 'NT', 'LMC', 'RMC')


def test_a_face_depends_on_seed_split_and_index_only():
    few, more = RenderedFaces(3), RenderedFaces(5)
    assert torch.equal(few.images, more.images[:3])
    assert torch.equal(few.targets['landmarks'], more.targets['landmarks'][:3])
    for other in (RenderedFaces(3, seed=1), RenderedFaces(3, split='test'), RenderedFaces(3, split='val')):
        assert not any(torch.equal(a, b) for a in few.images for b in other.images)


def test_landmarks_stay_well_inside_and_in_order():
    landmarks = RenderedFaces(200, max_rotation=0).targets['landmarks']
    assert landmarks.min() > 4
    assert landmarks.max() < 59
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks.unbind(1)
    assert (left_eye[:, 0] < right_eye[:, 0]).all()
    assert (left_mouth[:, 0] < right_mouth[:, 0]).all()
    assert (left_eye[:, 1] < nose[:, 1]).all()
    assert (nose[:, 1] < left_mouth[:, 1]).all()


def test_rotation_range():
    def roll(faces):
        points = faces.targets['landmarks']
        down = points[:, 3:].mean(1) - points[:, :2].mean(1)
        return torch.rad2deg(torch.atan2(-down[:, 0], down[:, 1]))

    assert roll(RenderedFaces(100)).std() > 20
    assert roll(RenderedFaces(100, max_rotation=0)).std() < 10


def test_landmarks_lie_on_what_they_name():
    """Where an eye is open and without glasses, its pupil is the darkest of its surroundings, on the average face."""
    faces = RenderedFaces(300, max_rotation=0)
    grey = faces.images.float().mean(1)
    points = faces.targets['landmarks'].round().long()
    for landmark in (0, 1):
        x, y = points[:, landmark].T
        rows = torch.arange(len(grey))
        at_eye = grey[rows, y, x]
        below = grey[rows, y + 6, x]
        assert (below - at_eye).mean() > 30


def test_image_size_scales_the_landmarks():
    small, large = RenderedFaces(2), RenderedFaces(2, image_size=128)
    assert large.images.shape == (2, 3, 128, 128)
    expected = (small.targets['landmarks'] + 0.5) * 2 - 0.5
    torch.testing.assert_close(large.targets['landmarks'], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'num_images': 0}, 'num_images should be at least 1, but got 0'),
        ({'image_size': 31}, 'image_size should be at least 32 to show a face, but got 31'),
        ({'max_rotation': 181}, 'max_rotation should be in [0, 180] degrees, but got 181'),
        ({'split': 'all'}, "split should be 'train', 'val' or 'test', but got 'all'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RenderedFaces(**kwargs)
