"""The accuracies of a study's networks beside what they cost."""

import statistics
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fg_plugin.studies.arms import ARMS, STUDIES

PANELS = {
    'macs': 'MACs of an image, millions',
    'inference': 'inference time / static',
    'training': 'training time / static',
}


def draw_costs(
    accuracies: Mapping[str, Mapping[str, Sequence[float]]], costs: Mapping[str, Mapping[str, float]], title: str
) -> Figure:
    """Draw accuracies over each cost, with one point a seed and the mean as a larger one.

    Circles are networks with generated filters, squares are others. A network has the same colour in all figures.

    Args:
        accuracies: In percent, one a seed, by the label of a row of panels and by arm of the study 'cost'.
        costs: By arm, ``macs``, ``inference`` and ``training``.
        title: Title of the figure.
    """
    figure = Figure(figsize=(15, 4.8 * len(accuracies)), dpi=110, layout='constrained')
    figure.suptitle(title)
    rows = figure.subplots(len(accuracies), len(PANELS), sharex='col', sharey='row', squeeze=False)
    for panels, (label, of_arms) in zip(rows, accuracies.items(), strict=True):
        panels[0].set(ylabel=label)
        _draw_row(panels, of_arms, costs)
    for axes, label in zip(rows[-1], PANELS.values(), strict=True):
        axes.set(xlabel=label)
    return figure


def _draw_row(
    panels: Sequence[Axes], accuracies: Mapping[str, Sequence[float]], costs: Mapping[str, Mapping[str, float]]
) -> None:
    colours = [colour for name in ('tab20', 'tab20b') for colour in mpl.colormaps[name].colors]  # type: ignore[attr-defined]
    for axes, cost in zip(panels, PANELS, strict=True):
        for index, name in enumerate(STUDIES['cost']):
            if name not in accuracies or name not in costs:
                continue
            value = costs[name][cost] / (1e6 if cost == 'macs' else 1)
            seeds, style = accuracies[name], {'color': colours[index], 'linestyle': ''}
            axes.plot([value] * len(seeds), seeds, marker='.', alpha=0.5, **style)
            mean, marker = statistics.fmean(seeds), 'o' if ARMS[name].generates else 's'
            shown = f'{ARMS[name].what} ({mean:.2f}, n = {len(seeds)})'
            axes.plot(value, mean, marker=marker, markersize=9, label=shown, **style)
        axes.grid(alpha=0.3)
    # Not one legend of the figure: each tells the means of its row.
    panels[-1].legend(loc='upper left', bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize='small')
