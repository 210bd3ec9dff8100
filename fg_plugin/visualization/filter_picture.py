"""Base filters and generated filters as pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

# Pixels of a tile, and between two of them.
_TILE = 64
_GAP = 10


def draw_filters(
    base: Tensor, mean: Tensor, generated: Tensor, images: Tensor, captions: Sequence[str], title: str = ''
) -> Figure:
    """Draw, row by row, base filters, mean generated filters, and for some samples theirs and how they differ.

    A filter over three channels is drawn as an image, others as the mean over their channels, in blue below zero and in
    red above; 1x1 filters as a square of their weights, one a channel.

    Args:
        base: ``(M, C, kh, kw)``.
        mean: Over samples, ``(N, C, kh, kw)``.
        generated: Of some samples, ``(S, N, C, kh, kw)``.
        images: Of these samples, ``(S, C', H, W)``, with any range of values.
        captions: Of these samples.
        title: Title of the figure.
    """
    difference = generated - mean
    limits = [_limit(base), max(_limit(mean), _limit(generated)), _limit(difference)]
    rows = [_row(None, base, limits[0]), _row(None, mean, limits[1])]
    labels = ['base filters', 'mean filters']
    for caption, image, filters, own in zip(captions, images, generated, difference, strict=True):
        rows += [_row(image, filters, limits[1]), _row(None, own, limits[2])]
        labels += [f'{caption}: filters', 'minus mean']
    # All tiles in one array: an axes for each of them would take many seconds.
    height, width = _TILE + _GAP, (_TILE + _GAP) * max(map(len, rows))
    canvas = np.full((height * len(rows), width, 3), 255, dtype=np.uint8)
    for row_index, row in enumerate(rows):
        for column, tile in enumerate(row):
            if tile is not None:
                top, left = row_index * height, column * (_TILE + _GAP)
                canvas[top : top + _TILE, left : left + _TILE] = tile
    figure = Figure(figsize=(width / 110 + 1.8, len(canvas) / 110 + 0.7), dpi=110, layout='constrained')
    figure.suptitle(f'{title}\nBase filters, filters and differences have a scale each.', fontsize='small')
    axes = figure.subplots()
    axes.imshow(canvas, interpolation='nearest')
    axes.set_yticks([index * height + _TILE / 2 for index in range(len(rows))], labels, fontsize='small')
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    return figure


def _row(image: Tensor | None, filters: Tensor, limit: float) -> list[np.ndarray | None]:
    return [None if image is None else _image_tile(image), *(_filter_tile(kernel, limit) for kernel in filters)]


def _limit(filters: Tensor) -> float:
    whole = filters.shape[-3] == 3 or tuple(filters.shape[-2:]) == (1, 1)
    return max((filters if whole else filters.mean(-3)).abs().max().item(), 1e-12)


def _filter_tile(kernel: Tensor, limit: float) -> np.ndarray:
    scaled = (kernel / (2 * limit) + 0.5).clamp(0, 1).numpy()
    if len(scaled) == 3 and scaled.shape[1:] != (1, 1):
        return _tile(scaled.transpose(1, 2, 0))
    if scaled.shape[1:] == (1, 1):
        side = int(np.ceil(np.sqrt(len(scaled))))
        picture = np.full((side, side), np.nan)
        picture.flat[: len(scaled)] = scaled.ravel()
    else:
        picture = (kernel.mean(0) / (2 * limit) + 0.5).clamp(0, 1).numpy()
    colours = colormaps['RdBu_r'](np.ma.masked_invalid(picture))[..., :3]
    colours[np.isnan(picture)] = 1
    return _tile(colours)


def _image_tile(image: Tensor) -> np.ndarray:
    low, high = image.min(), image.max()
    pixels = (image - low) / (high - low).clamp(min=1e-12)
    if len(pixels) != 3:
        pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return _tile(pixels.permute(1, 2, 0).numpy(), Image.Resampling.BILINEAR)


def _tile(pixels: np.ndarray, resample: Image.Resampling = Image.Resampling.NEAREST) -> np.ndarray:
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    return np.asarray(image.resize((_TILE, _TILE), resample))
