"""The accuracy of a study's networks beside what they cost."""

import statistics
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from fg_plugin.studies.arms import ARMS, STUDIES

PANELS = {
    'macs': 'MACs of an image, millions',
    'inference': 'inference time / static',
    'training': 'training time / static',
}


def draw_costs(
    accuracies: Mapping[str, Sequence[float]], costs: Mapping[str, Mapping[str, float]], title: str
) -> Figure:
    """Draw the test accuracy over each cost, with one point a seed and the mean as a larger one.

    Circles are networks with generated filters, squares are others. A network has the same colour in all figures.

    Args:
        accuracies: In percent by arm of the study 'cost', one a seed.
        costs: By arm, ``macs``, ``inference`` and ``training``.
        title: Title of the figure.
    """
    figure = Figure(figsize=(15, 4.8), dpi=110, layout='constrained')
    figure.suptitle(title)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    colours = [colour for name in ('tab20', 'tab20b') for colour in mpl.colormaps[name].colors]  # type: ignore[attr-defined]
    for axes, (cost, label) in zip(panels, PANELS.items(), strict=True):
        for index, name in enumerate(STUDIES['cost']):
            if name not in accuracies or name not in costs:
                continue
            value = costs[name][cost] / (1e6 if cost == 'macs' else 1)
            seeds, style = accuracies[name], {'color': colours[index], 'linestyle': ''}
            axes.plot([value] * len(seeds), seeds, marker='.', alpha=0.5, **style)
            mean, marker = statistics.fmean(seeds), 'o' if ARMS[name].generates else 's'
            shown = f'{ARMS[name].what} ({mean:.2f}, n = {len(seeds)})'
            axes.plot(value, mean, marker=marker, markersize=9, label=shown, **style)
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
    panels[0].set(ylabel='test accuracy (%)')
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside right upper', fontsize='small')
    return figure
