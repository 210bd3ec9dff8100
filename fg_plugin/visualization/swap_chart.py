"""Predictions with an image's own filters beside those with another image's."""

from collections.abc import Mapping

from matplotlib.figure import Figure


def draw_swap(values: Mapping[str, float], ylabel: str, chance: float | None = None, title: str = '') -> Figure:
    """Draw one bar a value.

    Args:
        values: By what the bars say.
        ylabel: What the values are.
        chance: Where a line of guessing is drawn, if anywhere.
        title: Title of the figure.
    """
    figure = Figure(figsize=(1.6 * len(values) + 2.2, 3.8), dpi=110, layout='constrained')
    figure.suptitle(title)
    axes = figure.subplots()
    bars = axes.bar(range(len(values)), list(values.values()), width=0.6)
    axes.bar_label(bars, fmt='%.3g')
    axes.set_xticks(range(len(values)), list(values))
    axes.set(ylabel=ylabel, xlim=(-0.6, len(values) - 0.4))
    axes.margins(y=0.12)
    if chance is not None:
        axes.axhline(chance, color='black', linestyle='--', linewidth=1, label=f'chance ({chance:.3g})')
        axes.legend(loc='upper right', fontsize='small')
    return figure
