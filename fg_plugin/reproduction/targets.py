"""What the reproduction aimed at, the paper's claims among it, and what came of it."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fg_plugin.markdown import markdown_table
from fg_plugin.reproduction.paper import TABLES
from fg_plugin.reproduction.summary import cells

Mean = Callable[[str, str, str], float]
"""The mean over the seeds of a cell, by table, row and column."""


class Target(NamedTuple):
    """A number that was aimed at.

    Attributes:
        what: What is measured.
        aim: Its least value that counts as reached, or its largest one.
        unit: Its unit.
        ours: What was measured.
        at_most: Whether ``aim`` is the largest value.
    """

    what: str
    aim: float
    unit: str
    ours: Callable[[Mean], float]
    at_most: bool = False


_FIRST, _LAST = 'acc@epoch=1', 'acc@epoch=20'
_GENERATED = (
    ('table1', 'n_enc = 5'),
    ('table1', 'n_enc = 10'),
    ('table1', 'n_enc = 20'),
    ('table2', 's = 2'),
    ('table2', 's = 10'),
)


def _leads(mean: Mean, row: str) -> list[float]:
    return [mean(table, row, column) - mean(table, row, 'baseline') for table, column in _GENERATED]


def _rise(mean: Mean) -> float:
    five, ten, twenty = (mean('table1', _LAST, f'n_enc = {filters}') for filters in (5, 10, 20))
    return min(ten - five, twenty - ten)


def _lowered(mean: Mean, table: str, row: str, model: str) -> float:
    static, generated = (mean(table, row, f'{model}, {variant}') for variant in ('D-Rot', 'D-Rot-FG'))
    return 100 * (1 - generated / static)


def _lead(mean: Mean, over: str) -> float:
    return mean('fig4', 'test accuracy', 'baseline-FG') - mean('fig4', 'test accuracy', over)


TARGETS = (
    Target('MNIST, n_enc = 20, s = 5, after 20 epochs', 99.2, '%', lambda mean: mean('table1', _LAST, 'n_enc = 20')),
    Target('MNIST, n_enc = 20, s = 5, after one epoch', 97.5, '%', lambda mean: mean('table1', _FIRST, 'n_enc = 20')),
    Target('MNIST, least lead over the baseline after 20 epochs', 0.0, 'points', lambda mean: min(_leads(mean, _LAST))),
    Target(
        'MNIST, least lead over the baseline after one epoch', 0.0, 'points', lambda mean: min(_leads(mean, _FIRST))
    ),
    Target(
        'MNIST, largest lead over the baseline after one epoch', 1.0, 'points', lambda mean: max(_leads(mean, _FIRST))
    ),
    Target('MNIST, least rise of the accuracy with the encoder (5, 10, 20 filters)', 0.0, 'points', _rise),
    Target('CIFAR-10, lead over the baseline', 1.0, 'points', lambda mean: _lead(mean, 'baseline')),
    Target('CIFAR-10, lead over VGG11', -0.3, 'points', lambda mean: _lead(mean, 'VGG11')),
    Target('CIFAR-10, training accuracy', 98.0, '%', lambda mean: mean('fig4', 'training accuracy', 'baseline-FG')),
    Target(
        'CIFAR-10, with the filters of another image',
        16.0,
        '%',
        lambda mean: mean('swap', 'filters of another image', 'baseline-FG'),
        at_most=True,
    ),
    Target('MTFL, fall of the mean error, Model32', 0.0, '%', lambda mean: _lowered(mean, 'fig3', 'AVG', 'Model32')),
    Target('MTFL, fall of the mean error, Model64', 0.0, '%', lambda mean: _lowered(mean, 'fig3', 'AVG', 'Model64')),
    Target(
        'MTFL, how much more the mean error falls for Model32 than for Model64',
        0.0,
        'points',
        lambda mean: _lowered(mean, 'fig3', 'AVG', 'Model32') - _lowered(mean, 'fig3', 'AVG', 'Model64'),
    ),
    Target(
        'MTFL, fall of the maximal error, Model32',
        38.0,
        '%',
        lambda mean: _lowered(mean, 'table3', 'maximal error', 'Model32'),
    ),
    Target(
        'MTFL, fall of the maximal error, Model64',
        55.0,
        '%',
        lambda mean: _lowered(mean, 'table3', 'maximal error', 'Model64'),
    ),
)


def targets_page(runs: Path) -> str:
    """Return the section of the targets, as far as ``runs`` have what they are measured by; nothing without any.

    Runs of another number of epochs than their table's count for none: the targets name the paper's.
    """
    known = {
        (name, cell.row, cell.column): cell.values
        for name, table in TABLES.items()
        for cell in cells(table, runs)
        if cell.values and cell.epochs == table.epochs
    }
    rows = [row for target in TARGETS if (row := _row(target, known))]
    if not rows:
        return ''
    table = markdown_table(['', 'aimed at', 'ours', 'seeds', 'reached'], rows)
    return f'## What was aimed at\n\n{table}\n'


def _row(target: Target, known: Mapping[tuple[str, str, str], Mapping[int, float]]) -> list[str]:
    """Return a line of the table, nothing if a cell that it needs is not known."""
    counts = set()

    def mean(table: str, row: str, column: str) -> float:
        values = known[table, row, column].values()
        counts.add(len(values))
        return statistics.fmean(values)

    try:
        ours = target.ours(mean)
    except KeyError:
        return []
    reached = ours <= target.aim if target.at_most else ours >= target.aim
    sign = '+' if target.unit == 'points' else ''
    aim = f'{"at most" if target.at_most else "at least"} {target.aim:{sign}g} {target.unit}'
    seeds = ' and '.join(map(str, sorted(counts)))
    return [target.what, aim, f'{ours:{sign}.2f}', seeds, 'yes' if reached else '**no**']
