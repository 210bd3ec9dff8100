"""Grids of images with true and predicted landmarks."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

TRUTH_COLOUR = 'lime'
PREDICTION_COLOUR = 'red'


class LandmarkRow(NamedTuple):
    """Images to draw side by side.

    Attributes:
        title: What the images have in common.
        images: uint8 ``(n, C, H, W)`` with one or three channels.
        predicted: ``(n, K, 2)`` points (x, y) in pixels.
        truth: ``(n, K, 2)`` points.
        captions: A text for each image.
    """

    title: str
    images: Tensor
    predicted: Tensor
    truth: Tensor
    captions: Sequence[str]


def draw_landmark_grid(rows: Sequence[LandmarkRow], title: str = '') -> Figure:
    """Draws the truth as green circles, the predictions as red crosses, and a line between the two.

    Raises:
        ValueError: If there is no image.
    """
    columns = max((len(row.images) for row in rows), default=0)
    if columns == 0:
        raise ValueError('rows should hold at least one image, but got none')
    figure = Figure(figsize=(1.7 * columns, 2.05 * len(rows) + 0.7), dpi=110, layout='constrained')
    figure.suptitle(title)
    figure.legend(
        handles=[
            Line2D([], [], color=TRUTH_COLOUR, marker='o', fillstyle='none', linestyle='', label='truth'),
            Line2D([], [], color=PREDICTION_COLOUR, marker='x', linestyle='', label='prediction'),
        ],
        loc='outside lower center',
        ncols=2,
    )
    grid = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for row, subfigure in zip(rows, grid, strict=True):
        subfigure.suptitle(row.title, fontsize='medium')
        all_axes = subfigure.subplots(1, columns, squeeze=False)[0]
        for axes in all_axes:
            axes.set_axis_off()
        for axes, image, predicted, truth, caption in zip(all_axes, *row[1:], strict=False):
            axes.imshow(image.permute(1, 2, 0), cmap='gray', vmin=0, vmax=255, interpolation='bilinear')
            for (x, y), (true_x, true_y) in zip(predicted.tolist(), truth.tolist(), strict=True):
                axes.plot([true_x, x], [true_y, y], color='yellow', linewidth=0.8)
            axes.plot(*truth.T.tolist(), 'o', color=TRUTH_COLOUR, markersize=5, fillstyle='none')
            axes.plot(*predicted.T.tolist(), 'x', color=PREDICTION_COLOUR, markersize=4)
            height, width = image.shape[-2:]
            axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            axes.set_title(caption, fontsize='small')
    return figure
