import numpy as np
import torch

from fg_plugin.visualization import figure_to_array
from fg_plugin.visualization.embedding_grid import Colouring, draw_embedding_grid
from fg_plugin.visualization.filter_picture import draw_filters
from fg_plugin.visualization.variation_chart import draw_variation

POINTS = np.random.default_rng(0).normal(size=(12, 2))


def test_each_group_has_its_colour_and_all_same_vectors_are_said_to_be():
    names = ['cat', 'dog', 'other classes']
    colouring = Colouring('class', np.arange(12) % 3, names)
    figure = draw_embedding_grid({'conv1': {'filters': POINTS, 'feature maps': None}}, colouring)
    first, second = figure.axes
    colours = {tuple(collection.get_facecolor()[0]) for collection in first.collections}
    assert len(colours) == 3
    assert sum(len(collection.get_offsets()) for collection in first.collections) == 12
    assert [text.get_text() for text in second.texts] == ['the same\nfor all samples']
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert first.get_ylabel() == 'conv1'


def test_numbers_are_coloured_by_a_scale():
    colouring = Colouring('angle', np.linspace(-40, 40, 12), None)
    figure = draw_embedding_grid({'conv1': {'filters': POINTS}}, colouring)
    assert figure.axes[-1].get_ylabel() == 'angle'
    assert np.array_equal(figure.axes[0].collections[0].get_array(), colouring.values)


def test_collapsed_layers_are_red():
    figure = draw_variation({'conv1': 0.1, 'conv2': 0.0}, 1e-4)
    first, second = (bar.get_width() for bar in figure.axes[0].patches)
    assert first == 0.1
    assert second < 1e-10
    colours = [bar.get_facecolor()[:3] for bar in figure.axes[0].patches]
    assert colours[0] != colours[1]
    assert colours[1][0] > 2 * colours[1][2]


def test_filters_are_drawn_in_their_places():
    signs = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 1, 3, 3)
    generated = torch.stack([signs, 0 * signs])
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0], images[1, 2] = 1, 1
    figure = draw_filters(signs, generated.mean(0), generated, images, ['a', 'b'])
    canvas = np.asarray(figure.axes[0].images[0].get_array()).astype(int)
    side = len(canvas) // 6
    tiles = canvas[20::side, 20::side]
    # Red above zero, blue below.
    warmth = tiles[..., 0] - tiles[..., 2]
    found = np.where(abs(warmth) < 20, 0, np.sign(warmth))[:, 1:]
    base, mean, first, minus_mean, second, second_minus_mean = found.tolist()
    assert base == mean == first == minus_mean == [1, -1]
    assert second == [0, 0]
    assert second_minus_mean == [-1, 1]
    # A sample's image stands before its filters.
    assert [tiles[row, 0].tolist() for row in (2, 4)] == [[255, 0, 0], [0, 0, 255]]


def test_filters_of_any_shape_are_drawn():
    for channels, side in ((1, 3), (3, 5), (8, 3), (3, 1), (8, 1)):
        base, generated = torch.randn(5, channels, side, side), torch.randn(2, 7, channels, side, side)
        images = torch.rand(2, 3, 16, 16)
        figure = draw_filters(base, generated.mean(0), generated, images, ['a', 'b'], 'conv')
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert labels == ['base filters', 'mean filters', 'a: filters', 'minus mean', 'b: filters', 'minus mean']
        assert figure_to_array(figure).std() > 10
