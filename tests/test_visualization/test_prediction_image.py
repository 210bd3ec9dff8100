import sys

import numpy as np
import pytest
from PIL import Image

from fg_plugin.visualization.prediction_image import draw_prediction


def red(picture):
    pixels = np.asarray(picture).astype(int)
    return (pixels[..., 0] > 200) & (pixels[..., 1:].sum(-1) < 60)


@pytest.mark.parametrize('size', [(28, 28), (64, 40), (500, 300)])
def test_points_lie_on_their_pixels(size):
    point = (size[0] // 3, size[1] // 2)
    picture = draw_prediction(Image.new('L', size), points=[point])
    factor = picture.width // size[0]
    assert (picture.width, picture.height) == (size[0] * factor, size[1] * factor)
    assert min(picture.size) >= 224
    rows, columns = np.nonzero(red(picture))
    assert columns.mean() == pytest.approx((point[0] + 0.5) * factor, abs=0.6)
    assert rows.mean() == pytest.approx((point[1] + 0.5) * factor, abs=0.6)


@pytest.mark.parametrize(('size', 'factor'), [((1, 2000), 2), ((5000, 1), 1), ((18, 20), 13), ((20, 400), 10)])
def test_narrow_images_are_enlarged_as_far_as_their_longest_side_allows(size, factor):
    assert draw_prediction(Image.new('L', size), points=[(0, 0)]).size == (size[0] * factor, size[1] * factor)
    assert draw_prediction(Image.new('L', size), 'a caption').width == size[0] * factor


def test_the_caption_stands_below_the_image_and_is_cut_to_its_width():
    image = Image.new('RGB', (224, 224), 'blue')
    short, long = draw_prediction(image, 'cat  98.0%'), draw_prediction(image, 'a very long name ' * 10)
    for picture in (short, long):
        assert picture.width == 224
        pixels = np.asarray(picture)
        assert (pixels[:224] == (0, 0, 255)).all()
        assert pixels[224:].max() > 200
        assert pixels[224:, -3:].max() == 0
    assert draw_prediction(image).size == (224, 224)


@pytest.mark.parametrize(('one', 'other'), [('кот', 'дом'), ('αβ', 'γδ')])
def test_captions_may_be_cyrillic_or_greek(one, other):
    image = Image.new('RGB', (224, 224))
    assert draw_prediction(image, one) != draw_prediction(image, other)


def test_line_breaks_of_a_caption_are_blanks():
    image = Image.new('RGB', (224, 224))
    assert draw_prediction(image, 'a\nb\u2029c') == draw_prediction(image, 'a b c')


def test_captions_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    picture = draw_prediction(Image.new('RGB', (224, 224)), 'cat')
    assert np.asarray(picture)[224:].max() > 200
