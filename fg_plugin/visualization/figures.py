"""Matplotlib figures without pyplot's global state."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fg_plugin.atomic_write import write_atomically


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, complete or not at all."""
    with write_atomically(path) as file:
        figure.savefig(file, format='png')


def figure_to_array(figure: Figure) -> np.ndarray:
    """Renders a figure to RGB pixels ``(H, W, 3)`` as uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
