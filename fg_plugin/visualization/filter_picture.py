"""Base filters and generated filters as pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from torch import Tensor


def draw_filters(
    base: Tensor, mean: Tensor, generated: Tensor, images: Tensor, captions: Sequence[str], title: str = ''
) -> Figure:
    """Draw, row by row, base filters, mean generated filters, and for some samples how theirs differ from the mean.

    A filter over one channel or three is drawn as an image. Others are drawn as the mean over their channels; 1x1
    filters as a square of their weights, one a channel.

    Args:
        base: ``(M, C, kh, kw)``.
        mean: Over samples, ``(N, C, kh, kw)``.
        generated: Of some samples, ``(S, N, C, kh, kw)``.
        images: Of these samples, ``(S, 1 or 3, H, W)``, with any range of values.
        captions: Of these samples.
        title: Title of the figure.
    """
    difference = generated - mean
    rows = [('base filters', None, base), ('mean filters', None, mean)]
    for caption, image, filters, own in zip(captions, images, generated, difference, strict=True):
        rows += [(f'{caption}: filters', image, filters), (f'{caption}: minus mean', None, own)]
    columns = max(len(base), len(mean)) + 1
    figure = Figure(figsize=(0.62 * columns + 2.2, 0.66 * len(rows) + 0.8), dpi=110, layout='constrained')
    figure.suptitle(f'{title}\nBase filters, filters and differences have a scale each.', fontsize='medium')
    grid = figure.subplots(len(rows), columns, squeeze=False)
    limits = {
        'base': _limit(base),
        'filters': max(_limit(mean), _limit(generated)),
        'difference': _limit(difference),
    }
    for axes_row, (label, image, filters) in zip(grid, rows, strict=True):
        for axes in axes_row:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        axes_row[0].set_ylabel(label, rotation=0, ha='right', va='center', fontsize='small')
        if image is not None:
            axes_row[0].imshow(_as_image(image), cmap='gray')
        kind = 'base' if label == 'base filters' else 'difference' if label.endswith('minus mean') else 'filters'
        for axes, kernel in zip(axes_row[1:], filters, strict=False):
            _draw_filter(axes, kernel, limits[kind])
    return figure


def _limit(filters: Tensor) -> float:
    values = filters if filters.shape[-3] in (1, 3) or filters.shape[-2:] == (1, 1) else filters.mean(-3)
    return max(values.abs().max().item(), 1e-12)


def _draw_filter(axes: Axes, kernel: Tensor, limit: float) -> None:
    if kernel.shape[0] == 3:
        axes.imshow((kernel / (2 * limit) + 0.5).clamp(0, 1).permute(1, 2, 0).numpy())
        return
    if kernel.shape[1:] == (1, 1):
        side = int(np.ceil(np.sqrt(len(kernel))))
        flat = np.full(side * side, np.nan)
        flat[: len(kernel)] = kernel.flatten().numpy()
        picture = flat.reshape(side, side)
    else:
        picture = kernel.mean(0).numpy()
    axes.imshow(picture, cmap='RdBu_r', norm=TwoSlopeNorm(0, -limit, limit))


def _as_image(image: Tensor) -> np.ndarray:
    low, high = image.min(), image.max()
    pixels = (image - low) / (high - low).clamp(min=1e-12)
    if len(pixels) not in (1, 3):
        pixels = pixels.mean(0, keepdim=True)
    return pixels.permute(1, 2, 0).numpy()
