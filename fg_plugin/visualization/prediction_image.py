"""A prediction drawn on its image."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

# Smaller images are enlarged, by a whole factor so that pixels stay pixels, until text and points can be told apart.
_SHORTEST_SIDE = 224
_POINT_COLOUR = 'red'


def draw_prediction(image: Image.Image, caption: str = '', points: Sequence[Sequence[float]] = ()) -> Image.Image:
    """Draw points and, below the image, a caption.

    Args:
        image: The image, in grey or RGB.
        caption: A text of one line; it is cut where it does not fit.
        points: ``(x, y)`` in pixels of ``image``, with the centre of its top-left pixel at (0, 0).
    """
    factor = max(1, -(-_SHORTEST_SIDE // min(image.size)))
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
        font = ImageFont.load_default(font_size)
        text = _shorten(caption, font, size[0] - font_size)
        draw.text((font_size / 2, size[1] + bar / 2), text, 'white', font, anchor='lm')
    return canvas


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f'{text}…') > width:
        text = text[:-1]
    return f'{text}…'
