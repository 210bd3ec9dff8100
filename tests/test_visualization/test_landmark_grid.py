import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from fg_plugin.visualization import LandmarkRow, draw_landmark_grid, figure_to_array, save_figure


def row(channels=3, images=2):
    points = 8 + 16 * torch.rand(images, 5, 2)
    grey = torch.full((images, channels, 32, 32), 128, dtype=torch.uint8)
    return LandmarkRow('row', grey, points + 3, points, [f'{image} %' for image in range(images)])


def close_to(pixels, colour):
    return (np.abs(pixels.astype(int) - 255 * np.array(to_rgb(colour))).max(-1) < 60).sum()


@pytest.mark.parametrize('channels', [1, 3])
def test_truth_is_green_and_prediction_red(channels):
    pixels = figure_to_array(draw_landmark_grid([row(channels)]))
    assert close_to(pixels, 'lime') > 50
    assert close_to(pixels, 'red') > 50


def test_points_are_drawn_in_pixel_coordinates():
    only = row(images=1)
    axes = draw_landmark_grid([only]).subfigs[0].axes[0]
    np.testing.assert_allclose(axes.lines[-2].get_xydata(), only.truth[0], rtol=1e-6)
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), only.predicted[0], rtol=1e-6)
    assert axes.get_xlim() == (-0.5, 31.5)
    assert axes.get_ylim() == (31.5, -0.5)


def test_a_short_row_leaves_places_empty():
    grid = draw_landmark_grid([row(images=3), row(images=1)])
    assert [len(axes.images) for axes in grid.subfigs[1].axes] == [1, 0, 0]


def test_no_image():
    with pytest.raises(ValueError, match='should hold at least one image, but got none'):
        draw_landmark_grid([])


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'grid.png'
    figure = draw_landmark_grid([row(images=1)])
    save_figure(figure, path)
    before = path.read_bytes()
    assert before.startswith(b'\x89PNG')

    def fail(file, format):
        file.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(figure, 'savefig', fail)
    with pytest.raises(OSError, match='disk full'):
        save_figure(figure, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
