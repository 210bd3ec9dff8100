"""Tables of the reproduction as Markdown."""

from collections.abc import Mapping, Sequence

from fg_plugin.reproduction.paper import Table
from fg_plugin.reproduction.summary import Cell, schedule


def table_page(
    name: str,
    table: Table,
    cells: Sequence[Cell],
    remarks: Mapping[str, str],
    others: Sequence[Cell] = (),
    costs: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Return the section of one table.

    Args:
        name: Its name, such as ``'table1'``.
        table: The table.
        cells: Its cells.
        remarks: Sentences about it, by its name or ``'<name>/<row>/<column>'``.
        others: Cells of the runs with other schedules than those in ``cells``.
        costs: What each column's network costs, as ``costs_by_column`` measures it.
    """
    lines = [f'## {_heading(name)}: {table.title}', '']
    lines += _rows(table, cells)
    of_cells = [
        f'- {cell.row}, {cell.column}: {remarks[key]}'
        for cell in cells
        if (key := f'{name}/{cell.row}/{cell.column}') in remarks
    ]
    missing = ', '.join(dict.fromkeys(cell.column for cell in cells if not cell.values))
    sizes = {cell.column: cell.parameters for cell in cells if cell.parameters is not None}
    parameters = ', '.join(f'{count:,} ({column})' for column, count in sizes.items())
    paragraphs = [
        f'Parameters: {parameters}.' if parameters else '',
        '\n'.join(_cost_rows(costs)) if costs else '',
        remarks.get(name, ''),
        '\n'.join(of_cells),
        f'Not run yet: {missing}.' if missing else '',
        '\n'.join(['Other schedules, with runs of their own:', '', *_rows(table, others)]) if others else '',
    ]
    return '\n\n'.join(['\n'.join(lines), *filter(None, paragraphs)]) + '\n'


def _heading(name: str) -> str:
    for prefix, word in (('table', 'Table'), ('fig', 'Figure')):
        if name.startswith(prefix):
            return f'{word} {name.removeprefix(prefix)}'
    return name.capitalize()


def _rows(table: Table, cells: Sequence[Cell]) -> list[str]:
    lines = [*_row(['', '', 'paper', 'ours', 'n', 'epochs', 'difference']), *_row(['---'] * 7)]
    for cell in cells:
        lines += _row(
            [
                cell.row,
                cell.column,
                _number(cell.paper),
                _ours(cell),
                str(len(cell.values)),
                '' if cell.epochs is None else schedule(cell.epochs, table.epochs),
                '' if cell.difference is None else f'{cell.difference:+.2f}',
            ]
        )
    return lines


def _cost_rows(costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = [*_row(['', 'MACs', 'training time', 'inference time']), *_row(['---'] * 4)]
    for column, cost in costs.items():
        times = [f'{cost[mode]:.2f}' for mode in ('training', 'inference')]
        lines += _row([column, f'{cost["macs"] / 1e6:.1f} M', *times])
    return lines


def _row(values: Sequence[str]) -> list[str]:
    return [f'| {" | ".join(values)} |']


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'


def _ours(cell: Cell) -> str:
    if cell.mean is None:
        return ''
    return _number(cell.mean) if cell.std is None else f'{cell.mean:.2f} ± {cell.std:.2f}'
