"""A prediction drawn on its image."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Smaller images are enlarged, by a whole factor so that pixels stay pixels, until text and points can be told apart.
# Narrow ones are only as far as the longest side allows.
_SHORTEST_SIDE = 224
_LONGEST_SIDE = 4096
_POINT_COLOUR = 'red'


def draw_prediction(image: Image.Image, caption: str = '', points: Sequence[Sequence[float]] = ()) -> Image.Image:
    """Draw points and, below the image, a caption.

    Args:
        image: The image, in grey or RGB.
        caption: A text of one line; it is cut where it does not fit.
        points: ``(x, y)`` in pixels of ``image``, with the centre of its top-left pixel at (0, 0).
    """
    factor = max(1, min(-(-_SHORTEST_SIDE // min(image.size)), _LONGEST_SIDE // max(image.size)))
    size = (image.width * factor, image.height * factor)
    font_size = max(14, min(size) // 18)
    bar = 2 * font_size if caption else 0
    canvas = Image.new('RGB', (size[0], size[1] + bar), 'black')
    canvas.paste(image.resize(size, Image.Resampling.NEAREST).convert('RGB'))
    draw = ImageDraw.Draw(canvas)
    radius = max(3, min(size) // 75)
    for x, y in points:
        centre = ((x + 0.5) * factor, (y + 0.5) * factor)
        draw.circle(centre, radius, fill=_POINT_COLOUR, outline='white', width=max(1, radius // 4))
    if caption:
        font = _font(font_size)
        # The layout of a text fails at a line break, which the name of a class may hold.
        text = _shorten(' '.join(caption.splitlines()), font, size[0] - font_size)
        draw.text((font_size / 2, size[1] + bar / 2), text, 'white', font, anchor='lm')
    return canvas


def colour_pixels(image: Image.Image, labels: np.ndarray) -> Image.Image:
    """Lay a colour for each class over an image.

    Args:
        image: The image, in grey or RGB.
        labels: ``(H, W)``, the number of each pixel's class. Class 0 stays as it is: it is the background in most data
            sets.
    """
    pixels = image.convert('RGB')
    colours = np.array([_class_colour(label) for label in range(labels.max() + 1)], dtype=np.uint8)
    coloured = Image.blend(pixels, Image.fromarray(colours[labels]), 0.5)
    return Image.composite(coloured, pixels, Image.fromarray(labels > 0))


def _class_colour(label: int) -> tuple[int, int, int]:
    # Steps of the golden ratio keep the hues of any number of classes apart.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.8, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return matplotlib's font, which has Greek, Cyrillic and more, or else Pillow's, which is Latin."""
    try:
        import matplotlib

        return ImageFont.truetype(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'), size)
    # The latter where a distribution keeps fonts elsewhere.
    except (ModuleNotFoundError, OSError):
        return ImageFont.load_default(size)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f'{text}…') > width:
        text = text[:-1]
    return f'{text}…'
