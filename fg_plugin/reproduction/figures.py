"""Pictures of the reproduction."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fg_plugin.reproduction.paper import Quantity, Table
from fg_plugin.reproduction.runs import Run
from fg_plugin.reproduction.summary import Cell, schedule


def draw_bars(cells: Sequence[Cell], table: Table) -> Figure:
    """Draw the rows of a table as groups of bars, as in Figure 3.

    Args:
        cells: Cells whose columns are named ``'<panel>, <bar>'``, or ``'<panel>'`` for its only bar. A panel without
            any number is left out.
        table: Their table.
    """
    panels = list(dict.fromkeys(_panel(cell) for cell in cells if cell.values))
    figure = _figure(len(panels), table.title)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True):
        of_panel = [cell for cell in cells if _panel(cell) == panel and cell.mean is not None]
        rows = list(dict.fromkeys(cell.row for cell in of_panel))
        bars = list(dict.fromkeys(cell.column for cell in of_panel))
        width = 0.8 / max(1, len(bars))
        for index, bar in enumerate(bars):
            group = [cell for cell in of_panel if cell.column == bar]
            places = np.array([rows.index(cell.row) for cell in group]) + (index - (len(bars) - 1) / 2) * width
            errors = [cell.std or 0.0 for cell in group]
            heights = [cell.mean or 0.0 for cell in group]
            label = f'{bar.removeprefix(f"{panel}, ")} ({_trained(len(group[0].values), group[0].epochs, table)})'
            axes.bar(places, heights, width, yerr=errors, label=label)
        axes.set(title=panel, ylabel=f'{table.measure} (%)')
        axes.set_xticks(range(len(rows)), rows)
        # Room for the legend.
        axes.margins(y=0.35)
        axes.grid(axis='y', alpha=0.3)
        axes.legend(fontsize='small')
    return figure


def draw_bars_by_row(cells: Sequence[Cell], table: Table) -> Figure:
    """Draw each row of a table in a panel of its own, with a bar for each column and a point for each seed.

    Args:
        cells: The cells. A column without any number is left out.
        table: Their table.
    """
    rows = list(dict.fromkeys(cell.row for cell in cells if cell.values))
    bars = len({cell.column for cell in cells if cell.values})
    figure = _figure(len(rows), table.title, height=max(4.0, 1.2 + 0.25 * bars))
    for axes, row in zip(figure.subplots(1, len(rows), squeeze=False, sharey=True)[0], rows, strict=True):
        of_row = [cell for cell in cells if cell.row == row and cell.values]
        names = [f'{cell.column} ({_trained(len(cell.values), cell.epochs, table)})' for cell in of_row]
        axes.barh(names, [cell.mean or 0.0 for cell in of_row], alpha=0.6)
        # By name, not by place: the panels share their bars, and a row may lack one.
        for name, cell in zip(names, of_row, strict=True):
            axes.plot(list(cell.values.values()), [name] * len(cell.values), 'k.')
        axes.set(title=row, xlabel=f'{table.measure} (%)')
        axes.grid(axis='x', alpha=0.3)
    # Shared by all panels.
    axes.invert_yaxis()
    return figure


def draw_curves_over_seeds(runs: Mapping[str, Sequence[Run]], quantities: Sequence[Quantity], table: Table) -> Figure:
    """Draw quantities over the epochs, one panel each, with the mean over seeds and every seed behind it (Figure 4).

    Args:
        runs: Runs by the name of their curve; those of one name have the same number of epochs.
        quantities: What to draw.
        table: Their table.
    """
    figure = _figure(len(quantities), table.title)
    for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        for number, (name, group) in enumerate(runs.items()):
            if not group:
                continue
            epochs = range(1, int(group[0].metrics['epochs']) + 1)
            values = np.array(
                [[run.value(quantity._replace(epoch=epoch)) for epoch in epochs] for run in group], dtype=float
            )
            color = f'C{number}'
            if len(group) > 1:
                axes.plot(epochs, values.T, color=color, linewidth=0.7, alpha=0.4)
            mean = values.mean(0)
            trained = _trained(len(group), len(epochs), table)
            axes.plot(epochs, mean, color=color, label=f'{name} ({mean[-1]:.2f}, {trained})')
        axes.set(xlabel='epoch', ylabel=f'{quantity.label} (%)')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize='small')
    return figure


def _panel(cell: Cell) -> str:
    return cell.column.partition(', ')[0]


def _trained(count: int, epochs: int | None, table: Table) -> str:
    if epochs is None or epochs == table.epochs:
        return f'n = {count}'
    return f'n = {count}, {schedule(epochs, table.epochs)} epochs'


def _figure(panels: int, title: str, height: float = 4.0) -> Figure:
    figure = Figure(figsize=(5.5 * panels, height), dpi=110, layout='constrained')
    figure.suptitle(textwrap.fill(title, 55 * panels))
    return figure
