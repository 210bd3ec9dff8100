"""Numbers over seeds, beside the paper's."""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from fg_plugin.reproduction.paper import Table
from fg_plugin.reproduction.runs import Run, finished_runs


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


def chosen_runs(config: str, results: Path) -> list[Run]:
    """Return the runs of a config that its table shows: those of full length, or else the longest ones."""
    groups = finished_runs(config, results)
    if not groups:
        return []
    return groups[None] if None in groups else groups[max(key for key in groups if key is not None)]


def cells(table: Table, results: Path) -> list[Cell]:
    """Return the cells of a table, row by row; a cell without a finished run has no values."""
    runs = {column: chosen_runs(config, results) for column, config in table.columns.items()}
    found = []
    for quantity in table.quantities:
        for column, group in runs.items():
            measured = {run.seed: run.value(quantity) for run in group}
            values = {seed: value for seed, value in measured.items() if value is not None}
            metrics = group[0].metrics if group else {}
            paper = table.paper.get((quantity.label, column))
            found.append(Cell(quantity.label, column, paper, values, metrics.get('epochs'), metrics.get('parameters')))
    return found


def schedule(epochs: int, full: int) -> str:
    """Return how many epochs were trained, such as ``'5 of 30'``."""
    return str(epochs) if epochs == full else f'{epochs} of {full}'
