"""Tables of the reproduction as Markdown."""

from collections.abc import Mapping, Sequence

from fg_plugin.markdown import markdown_table, mean_and_std
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
        _cost_table(costs) if costs else '',
        remarks.get(name, ''),
        '\n'.join(of_cells),
        f'Not run yet: {missing}.' if missing else '',
        f'Other schedules, with runs of their own:\n\n{_numbers(table, others)}' if others else '',
    ]
    parts = [f'## {_heading(name)}: {table.title}', _numbers(table, cells), *filter(None, paragraphs)]
    return '\n\n'.join(parts) + '\n'


def _heading(name: str) -> str:
    for prefix, word in (('table', 'Table'), ('fig', 'Figure')):
        if name.startswith(prefix):
            return f'{word} {name.removeprefix(prefix)}'
    return name.capitalize()


def _numbers(table: Table, cells: Sequence[Cell]) -> str:
    rows = [
        [
            cell.row,
            cell.column,
            '' if cell.paper is None else f'{cell.paper:.2f}',
            mean_and_std(list(cell.values.values())),
            str(len(cell.values)),
            '' if cell.epochs is None else schedule(cell.epochs, table.epochs),
            '' if cell.difference is None else f'{cell.difference:+.2f}',
        ]
        for cell in cells
    ]
    return markdown_table(['', '', 'paper', 'ours', 'n', 'epochs', 'difference'], rows)


def _cost_table(costs: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [column, f'{cost["macs"] / 1e6:.1f} M', f'{cost["training"]:.2f}', f'{cost["inference"]:.2f}']
        for column, cost in costs.items()
    ]
    return markdown_table(['', 'MACs', 'training time', 'inference time'], rows)
