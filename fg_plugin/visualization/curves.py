"""Loss terms and metrics over the epochs."""

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# A curve that falls by such a factor hides its end on a linear axis.
_LOGARITHMIC_FROM = 4

Rows = Sequence[Mapping[str, float]]


def draw_curves(train: Rows, val: Rows, title: str = '') -> Figure:
    """Draws the loss terms of the training and, in one panel a group, the metrics.

    Args:
        train: Rows with an ``'epoch'`` (a fraction within an epoch), loss terms whose names hold ``'loss'``, and other
            scalars of the training.
        val: Rows with an ``'epoch'`` and metrics named ``group/name``. A training scalar called ``train_<group>`` is
            drawn beside the metrics of its group.
        title: Title of the figure.

    Raises:
        ValueError: If there is nothing to draw.
    """
    losses = sorted({name for row in train for name in row if 'loss' in name})
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in val for name in row if name != 'epoch'):
        values = [row[name] for row in val if name in row]
        if len(val) > 1 and len(values) == 1:
            # Measured once, at the end: no curve.
            title += f', {name} {values[0]:.4g}'
        else:
            groups.setdefault(_group(name), []).append(name)
    panels = ([losses] if losses else []) + list(groups.values())
    if not panels:
        raise ValueError('train and val should hold at least one curve, but both are empty')
    figure = Figure(figsize=(5.5 * len(panels), 4), dpi=110, layout='constrained')
    figure.suptitle(textwrap.fill(title, 45 * len(panels)))
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if names is losses:
            _plot(axes, train, names, marker='')
            axes.set(title='training loss')
        else:
            group = _group(names[0])
            _plot(axes, train, [name for name in (f'train_{group}',) if any(name in row for row in train)], marker='')
            _plot(axes, val, names, marker='o')
            axes.set(title=group)
        values = [value for line in axes.lines for value in line.get_ydata()]
        if min(values) > 0 and max(values) > _LOGARITHMIC_FROM * min(values):
            axes.set_yscale('log')
        axes.set(xlabel='epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    return figure


def _group(name: str) -> str:
    # A maximum is several times the mean: it would flatten the mean's curves in the same panel.
    return name if name.endswith('/maximal') else name.split('/')[0]


def _plot(axes: Axes, rows: Rows, names: Sequence[str], marker: str) -> None:
    for name in names:
        points = [(row['epoch'], row[name]) for row in rows if name in row]
        (line,) = axes.plot(*zip(*points, strict=True), marker=marker, markersize=3, linewidth=1.2)
        line.set_label(f'{name} ({points[-1][1]:.4g})')
