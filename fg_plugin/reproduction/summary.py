"""Numbers over seeds, beside the paper's."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fg_plugin.reproduction.paper import Quantity, Table
from fg_plugin.reproduction.runs import Run, RunName, finished_runs


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        row: Label of the quantity.
        column: Label of the column.
        paper: The paper's number, None if it prints none.
        values: Ours, by seed.
        epochs: Epochs of these runs.
        parameters: Parameters of the trained network, None without a run.
    """

    row: str
    column: str
    paper: float | None
    values: dict[int, float]
    epochs: int | None
    parameters: int | None

    @property
    def mean(self) -> float | None:
        """Mean over the seeds, None without a run."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds (of the sample), None for fewer than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as plain data."""
        numbers = {'mean': self.mean, 'std': self.std, 'n': len(self.values), 'difference': self.difference}
        return {**self._asdict(), 'values': {str(seed): value for seed, value in self.values.items()}, **numbers}


def runs_by_schedule(config: str, results: Path) -> list[list[Run]]:
    """Return the runs of a config by schedule: those of full length, then from the longest to the shortest.

    Raises:
        ValueError: If runs of one folder are of several lengths, such as from before and after the config's changed.
    """
    groups = finished_runs(config, results)
    for epochs, group in groups.items():
        # A name without a number stands for the config's own, which only the table knows.
        length = group[0].metrics['epochs'] if epochs is None else epochs
        for run in group:
            if run.metrics['epochs'] != length:
                folder = results / RunName(config, run.seed, epochs).folder.parent
                raise ValueError(
                    f'The runs of {folder} should be of one number of epochs, {length}, but that of seed{run.seed} is '
                    f'of {run.metrics["epochs"]}: move it to {config}-{run.metrics["epochs"]}ep.'
                )
    keys = sorted(groups, key=lambda epochs: float('-inf') if epochs is None else -epochs)
    return [groups[key] for key in keys]


def chosen_runs(config: str, results: Path) -> list[Run]:
    """Return the runs of a config that its table shows: those of full length, or else the longest ones."""
    return next(iter(runs_by_schedule(config, results)), [])


def cells(table: Table, results: Path) -> list[Cell]:
    """Return the cells of a table, row by row; a cell without a finished run has no values."""
    runs = {column: chosen_runs(config, results) for column, config in table.columns.items()}
    return [_cell(table, quantity, column, group) for quantity in table.quantities for column, group in runs.items()]


def cells_of_other_schedules(table: Table, results: Path) -> list[Cell]:
    """Return the cells of all runs that the table does not show, as another schedule of theirs takes precedence."""
    runs = [
        (column, group) for column, config in table.columns.items() for group in runs_by_schedule(config, results)[1:]
    ]
    return [_cell(table, quantity, column, group) for quantity in table.quantities for column, group in runs]


def schedule(epochs: int, full: int) -> str:
    """Return how many epochs were trained, such as ``'5 of 30'`` or ``'30 instead of 5'``."""
    if epochs == full:
        return str(epochs)
    return f'{epochs} {"of" if epochs < full else "instead of"} {full}'


def _cell(table: Table, quantity: Quantity, column: str, group: Sequence[Run]) -> Cell:
    measured = {run.seed: run.value(quantity) for run in group}
    values = {seed: value for seed, value in measured.items() if value is not None}
    metrics = group[0].metrics if group else {}
    paper = table.paper.get((quantity.label, column))
    return Cell(quantity.label, column, paper, values, metrics.get('epochs'), metrics.get('parameters'))
