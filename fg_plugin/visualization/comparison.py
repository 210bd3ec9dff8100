"""The same metrics of several runs, side by side."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Rows = Sequence[Mapping[str, float]]


def draw_comparison(runs: Mapping[str, Rows], metrics: Sequence[str], title: str = '') -> Figure:
    """Draw one panel a metric with one line a run.

    Args:
        runs: By name, rows with an ``'epoch'`` and metrics, as ``curves.json`` holds them.
        metrics: Names of the metrics.
        title: Title of the figure.

    Raises:
        ValueError: If a run has none of a metric.
    """
    figure = Figure(figsize=(5 * len(metrics), 3.8), dpi=110, layout='constrained')
    figure.suptitle(title)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for name, rows in runs.items():
            points = [(row['epoch'], row[metric]) for row in rows if metric in row]
            if not points:
                known = sorted({key for row in rows for key in row} - {'epoch'})
                raise ValueError(f"The metric should be one of {known} in run '{name}', but got '{metric}'.")
            (line,) = axes.plot(*zip(*points, strict=True), marker='o', markersize=3, linewidth=1.2)
            line.set_label(f'{name} ({points[-1][1]:.4g})')
        axes.set(title=metric, xlabel='epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    return figure
