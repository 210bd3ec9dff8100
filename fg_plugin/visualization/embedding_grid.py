"""Scatter plots of samples in rows and columns (Figure 5)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

_OTHER = 'lightgrey'


class Colouring(NamedTuple):
    """What the colours of the points mean.

    Attributes:
        title: What is coloured by.
        values: One number ``(N,)`` a sample: a position in ``names``, or any number without names.
        names: Of the groups; at most ten, and a last one for the rest. None for a continuous scale.
    """

    title: str
    values: np.ndarray
    names: Sequence[str] | None


def draw_embedding_grid(
    rows: Mapping[str, Mapping[str, np.ndarray | None]], colouring: Colouring, title: str = ''
) -> Figure:
    """Draw one row a layer and one column a kind of vectors.

    Args:
        rows: By layer and kind, points ``(N, 2)``, or None if all samples have the same vector.
        colouring: Of the points.
        title: Title of the figure.
    """
    kinds = list(next(iter(rows.values())))
    figure = Figure(figsize=(3.4 * len(kinds) + 1.6, 3.2 * len(rows) + 0.8), dpi=110, layout='constrained')
    figure.suptitle(title)
    grid = figure.subplots(len(rows), len(kinds), squeeze=False)
    scatter = None
    for axes_row, (layer, embeddings) in zip(grid, rows.items(), strict=True):
        for axes, kind in zip(axes_row, kinds, strict=True):
            axes.set(xticks=[], yticks=[])
            if axes in grid[0]:
                axes.set_title(kind)
            if axes is axes_row[0]:
                axes.set_ylabel(layer)
            points = embeddings[kind]
            if points is None:
                axes.text(0.5, 0.5, 'the same\nfor all samples', ha='center', va='center', transform=axes.transAxes)
            elif colouring.names is None:
                scatter = axes.scatter(
                    points[:, 0], points[:, 1], c=colouring.values, cmap='viridis', s=9, linewidths=0
                )
            else:
                _scatter_groups(axes, points, colouring)
    if colouring.names is None:
        if scatter is not None:
            figure.colorbar(
                scatter, ax=grid, label=colouring.title, shrink=1 / len(rows), aspect=30, pad=0.02, anchor=(0, 1)
            )
    else:
        handles = [
            Line2D([], [], color=_colour(index, colouring.names), marker='o', linestyle='', label=name[:24])
            for index, name in enumerate(colouring.names)
        ]
        figure.legend(handles=handles, loc='outside right upper', title=colouring.title, fontsize='small')
    return figure


def _scatter_groups(axes: Axes, points: np.ndarray, colouring: Colouring) -> None:
    names = colouring.names or ()
    # The rest first, so that it hides nothing.
    for group in reversed(range(len(names))):
        chosen = points[colouring.values == group]
        axes.scatter(chosen[:, 0], chosen[:, 1], color=_colour(group, names), s=9, linewidths=0)


def _colour(group: int, names: Sequence[str]) -> Any:
    return _OTHER if names[group] == 'other classes' else colormaps['tab10'](group)
