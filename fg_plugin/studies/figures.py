"""The accuracy of a study's networks beside what they cost."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

PANELS = {
    'macs': 'MACs of an image, millions',
    'inference': 'inference time / static',
    'training': 'training time / static',
}


def draw_costs(
    accuracies: Mapping[str, Sequence[float]], costs: Mapping[str, Mapping[str, float]], title: str
) -> Figure:
    """Draw the test accuracy over each cost, with one point a seed and the mean as a larger one.

    Args:
        accuracies: In percent by network, one a seed.
        costs: By network, ``macs``, ``inference`` and ``training``.
        title: Title of the figure.
    """
    figure = Figure(figsize=(13, 4.6), dpi=110, layout='constrained')
    figure.suptitle(title)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    shown = [name for name in accuracies if name in costs]
    for axes, (cost, label) in zip(panels, PANELS.items(), strict=True):
        for index, name in enumerate(shown):
            value = costs[name][cost] / (1e6 if cost == 'macs' else 1)
            # More networks than a colour cycle has colours.
            colour, marker = f'C{index % 10}', 'os'[index // 10 % 2]
            seeds = accuracies[name]
            axes.plot([value] * len(seeds), seeds, '.', color=colour, alpha=0.5)
            mean = statistics.fmean(seeds)
            axes.plot(value, mean, marker, color=colour, markersize=9, label=f'{name} ({mean:.2f}, n = {len(seeds)})')
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
    panels[0].set(ylabel='test accuracy (%)')
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside right upper', fontsize='small')
    return figure
