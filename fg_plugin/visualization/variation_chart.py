"""How much the filters of each layer vary from sample to sample."""

from collections.abc import Mapping

from matplotlib.figure import Figure

# A layer whose filters do not vary at all has no place on a logarithmic axis.
_FLOOR = 1e-12


def draw_variation(ratios: Mapping[str, float], threshold: float, title: str = '') -> Figure:
    """Draw one bar a layer on a logarithmic axis; layers below ``threshold`` are red.

    Args:
        ratios: Variance relative to the mean square, by layer.
        threshold: Below it, the layer has collapsed.
        title: Title of the figure.
    """
    figure = Figure(figsize=(7.5, 0.24 * len(ratios) + 1.6), dpi=110, layout='constrained')
    figure.suptitle(title)
    axes = figure.subplots()
    values = [max(ratio, _FLOOR) for ratio in ratios.values()]
    colours = ['tab:red' if ratio < threshold else 'tab:blue' for ratio in ratios.values()]
    axes.barh(range(len(values)), values, color=colours, left=0)
    axes.set_yticks(range(len(values)), list(ratios), fontsize='small')
    axes.set(xscale='log', xlabel='variance of the coefficients over samples / their mean square')
    axes.set_xlim(min(*values, threshold) / 3, max(*values, threshold) * 3)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.axvline(threshold, color='black', linestyle='--', linewidth=1)
    axes.text(threshold, 1.01, 'collapsed below', ha='center', va='bottom', transform=axes.get_xaxis_transform())
    axes.grid(axis='x', alpha=0.3)
    return figure
