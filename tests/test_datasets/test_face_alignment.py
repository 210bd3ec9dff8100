import numpy as np
import pytest
from PIL import Image
from skimage.transform import SimilarityTransform, warp

from fg_plugin.datasets.face_alignment import EYE_CENTRE, MOUTH_CENTRE, alignment_transform, crop_face

LANDMARKS = np.array([[100.0, 90.0], [140.0, 98.0], [117.0, 118.0], [98.0, 130.0], [130.0, 136.0]])


def smooth_image(height=200, width=240):
    y, x = np.mgrid[:height, :width]
    channels = [127 + 120 * np.sin(x / 23 + 0.3), 127 + 120 * np.cos(y / 19), 127 + 120 * np.sin((x + y) / 31)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def test_eyes_and_mouth_come_to_their_fixed_points():
    points = alignment_transform(LANDMARKS)(LANDMARKS)
    np.testing.assert_allclose(points[:2].mean(0), EYE_CENTRE)
    np.testing.assert_allclose(points[3:].mean(0), MOUTH_CENTRE)


def test_shape_is_kept():
    transform = alignment_transform(LANDMARKS, 30.0)
    before = np.linalg.norm(LANDMARKS[:, None] - LANDMARKS, axis=-1)
    points = transform(LANDMARKS)
    np.testing.assert_allclose(np.linalg.norm(points[:, None] - points, axis=-1), before * transform.scale)
    assert np.linalg.det(transform.params) > 0


def test_rotation_is_clockwise_about_the_centre():
    aligned = alignment_transform(LANDMARKS)(LANDMARKS) - 31.5
    rotated = alignment_transform(LANDMARKS, 90.0)(LANDMARKS) - 31.5
    np.testing.assert_allclose(rotated, np.column_stack([-aligned[:, 1], aligned[:, 0]]), atol=1e-9)


def test_coinciding_centres():
    with pytest.raises(ValueError, match='eye centre and mouth centre should differ to align a face'):
        alignment_transform(np.ones((5, 2)))


@pytest.mark.parametrize('angle', [0.0, 37.0, -45.0])
@pytest.mark.parametrize('scale', [0.35, 0.8, 1.0, 1.7])
def test_crop_equals_plain_interpolation_of_a_smooth_image(scale, angle):
    image = smooth_image()
    transform = SimilarityTransform(translation=(-120, -100)) + SimilarityTransform(
        scale=scale, rotation=np.deg2rad(angle), translation=(31.5, 31.5)
    )
    expected = warp(
        np.asarray(image), transform.inverse, output_shape=(64, 64), order=1, mode='edge', preserve_range=True
    )
    difference = np.abs(np.asarray(crop_face(image, transform)) - expected)
    # Averaging over a pixel of the crop flattens the extremes of the waves a little.
    assert difference.max() < 4
    assert difference.mean() < 1


def test_landmarks_stay_on_what_they_mark():
    pixels = np.zeros((200, 240, 3), dtype=np.uint8)
    for x, y in LANDMARKS.astype(int):
        pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    for angle in (0.0, 25.0, -45.0):
        transform = alignment_transform(LANDMARKS, angle)
        crop = np.asarray(crop_face(Image.fromarray(pixels), transform))[..., 0].astype(float)
        for x, y in transform(LANDMARKS):
            rows, columns = slice(round(y) - 3, round(y) + 4), slice(round(x) - 3, round(x) + 4)
            weights = crop[rows, columns]
            grid_y, grid_x = np.mgrid[rows, columns]
            centre = np.array([(weights * grid_x).sum(), (weights * grid_y).sum()]) / weights.sum()
            np.testing.assert_allclose(centre, (x, y), atol=0.1)


def test_shrinking_does_not_alias():
    checkerboard = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    image = Image.fromarray(checkerboard).convert('RGB')
    transform = SimilarityTransform(scale=1 / 7.3, rotation=0.4, translation=(10, -12))
    crop = np.asarray(crop_face(image, transform)).astype(float)
    assert np.abs(crop[10:-10, 10:-10] - 127.5).max() < 12


def test_places_outside_repeat_the_edge():
    image = Image.new('RGB', (30, 20), (200, 150, 100))
    crop = np.asarray(crop_face(image, SimilarityTransform(rotation=0.6, translation=(25, 15))))
    assert (crop == (200, 150, 100)).all()


def test_grey_image():
    image = smooth_image(50, 50).convert('L')
    assert crop_face(image, SimilarityTransform(translation=(5, 5))).size == (64, 64)
