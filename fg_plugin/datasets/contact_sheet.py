"""A sheet of small images with their landmarks drawn, to check a data set by eye (Figure 6)."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

_COLOURS = ('#ff3b30', '#34c759', '#ffcc00', '#32ade6', '#ff2d95')
_GAP = 4


def contact_sheet(images: np.ndarray, landmarks: np.ndarray, *, columns: int = 8, scale: int = 3) -> Image.Image:
    """Draw images side by side, each with its landmarks as coloured dots.

    Args:
        images: ``uint8`` array of shape ``(N, 3, H, W)``.
        landmarks: Array of shape ``(N, L, 2)``: x, y in pixels, centre of the top-left pixel at (0, 0).
        columns: Images in a row.
        scale: Magnification.
    """
    height, width = images.shape[2] * scale, images.shape[3] * scale
    rows = -(-len(images) // columns)
    sheet = Image.new('RGB', (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), 'white')
    draw = ImageDraw.Draw(sheet)
    radius = scale
    for position, (image, points) in enumerate(zip(images, landmarks, strict=True)):
        left = _GAP + position % columns * (width + _GAP)
        top = _GAP + position // columns * (height + _GAP)
        tile = Image.fromarray(image.transpose(1, 2, 0)).resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(tile, (left, top))
        for landmark, (x, y) in enumerate((points + 0.5) * scale - 0.5):
            box = (left + x - radius, top + y - radius, left + x + radius, top + y + radius)
            draw.ellipse(box, fill=_COLOURS[landmark % len(_COLOURS)], outline='black')
    return sheet


def stack_sheets(sheets: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Put sheets below each other, each under its title."""
    title_height = 24
    whole = Image.new(
        'RGB',
        (max(sheet.width for _, sheet in sheets), sum(sheet.height + title_height for _, sheet in sheets)),
        'white',
    )
    draw = ImageDraw.Draw(whole)
    top = 0
    for title, sheet in sheets:
        draw.text((_GAP, top + 4), title, fill='black', font_size=16)
        whole.paste(sheet, (0, top + title_height))
        top += sheet.height + title_height
    return whole
