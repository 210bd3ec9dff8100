"""Reproduces the paper's tables and figures.

    python tools/reproduce.py table1             # trains what is missing, then writes results/table1.{json,md,png}
    python tools/reproduce.py all --seeds 0      # everything, one seed
    python tools/reproduce.py fig4 --epochs 10   # a shorter schedule, which the table states
    python tools/reproduce.py all --report       # trains nothing
    python tools/reproduce.py fig6               # work_dirs/reproduce/fig6.png: MTFL's faces must not be passed on
    python tools/reproduce.py faces --costs      # also MACs and times of its networks, on an idle machine
    python tools/reproduce.py worst              # the test faces with the largest errors, for runs with a checkpoint
    python tools/reproduce.py unseen             # errors on faces rotated further, for runs of faces with a checkpoint

Interrupted trainings are resumed, and finished ones never run again: their logs are in results/runs. Several calls
share the trainings: each leaves alone what another is training. RESULTS.md, made anew by each call, holds all tables;
that of another folder of --results lies in it.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

from fg_plugin.atomic_write import write_text_atomically
from fg_plugin.benchmark.environment import environment
from fg_plugin.reproduction.costs import costs_by_column
from fg_plugin.reproduction.figures import draw_bars, draw_bars_by_row, draw_curves_over_seeds
from fg_plugin.reproduction.page import table_page
from fg_plugin.reproduction.paper import TABLES, Table
from fg_plugin.reproduction.pictures import FIGURE5_CONFIG, draw_figure5, draw_figure6, figure5_page, is_figure5_of
from fg_plugin.reproduction.runs import RunError, RunInProgressError, RunName, has_last_checkpoint, is_finished, train
from fg_plugin.reproduction.summary import Cell, cells, cells_of_other_schedules, chosen_runs
from fg_plugin.reproduction.targets import targets_page
from fg_plugin.reproduction.unseen_rotations import (
    UNSEEN_ROTATIONS,
    draw_unseen_rotations,
    is_measured,
    load_unseen_rotations,
    measure_unseen_rotations,
    unseen_rotations_page,
)
from fg_plugin.reproduction.worst_faces import describe_worst_faces, worst_faces_page
from fg_plugin.visualization.figures import save_figure

ROOT = Path(__file__).parents[1]
FIGURES = ('fig5', 'fig6', 'worst', 'unseen')
INTRODUCTION = """# Results beside the paper's

Made by `python tools/reproduce.py` from the logs in `results/runs`: each run's `metrics.json` holds its command, seed,
versions and hardware, its `curves.json` the training and test curves. Ours are the mean ± the standard deviation over n
seeds, measured on the test set after the last epoch: every seed that was run counts, and none is chosen by its result.
Where the schedule was another than the config's, the column of epochs says so. Of a config that was trained with
several schedules, a table shows its own, or else the longest, and the others follow below it. Figure 6 shows faces of
MTFL, which must not be passed on: `python tools/reproduce.py fig6` draws it into `work_dirs`.
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tables', nargs='+', choices=[*TABLES, *FIGURES, 'all'], help='which tables and figures')
    parser.add_argument('--seeds', type=int, nargs='+', help='seeds to train (default: 0, 1, ... as many as needed)')
    parser.add_argument('--epochs', type=int, help="another number of epochs than the configs'")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('--report', action='store_true', help='train and measure nothing')
    mode.add_argument('--costs', action='store_true', help='measure MACs and times of the networks of the tables')
    parser.add_argument('--dry-run', action='store_true', help='list the missing trainings and stop')
    parser.add_argument(
        '--mtfl-dir', type=Path, default=ROOT / 'data' / 'mtfl_64', help='prepared MTFL, for fig6, worst and unseen'
    )
    parser.add_argument(
        '--mtfl-unseen-dir',
        type=Path,
        default=ROOT / 'data' / 'mtfl_64_unseen',
        help='MTFL as prepared with --angles 45 60, for unseen',
    )
    parser.add_argument('--mtfl-root', type=Path, default=ROOT / 'data' / 'MTFL', help='official MTFL, for worst')
    parser.add_argument('--work-dirs', type=Path, default=ROOT / 'work_dirs' / 'reproduce', help='checkpoints')
    parser.add_argument('--results', type=Path, default=ROOT / 'results', help='folder of tables, pictures and runs')
    args = parser.parse_args()
    if 'unseen' in args.tables and args.epochs is not None:
        parser.error(f'unseen compares runs of the number of epochs of their configs, but got --epochs {args.epochs}')
    # The trainings run in the checkout, where a relative path would mean another folder.
    args.work_dirs, args.results = args.work_dirs.absolute(), args.results.absolute()
    return args


def main(args: argparse.Namespace) -> None:
    selected = [*TABLES, *FIGURES] if 'all' in args.tables else args.tables
    runs = args.results / 'runs'
    tables = [name for name in selected if name in TABLES]
    of_table1 = wanted(['table1'], (args.seeds or [0])[:1], args.epochs)
    (figure5,) = (name for name in of_table1 if name.config == FIGURE5_CONFIG)
    names = [*wanted(tables, args.seeds, args.epochs), *([figure5] if 'fig5' in selected else [])]
    missing = [name for name in dict.fromkeys(names) if not is_finished(name, runs)]
    if args.dry_run:
        print('\n'.join(str(name.folder) for name in missing) or 'no training is missing')
        return
    if not args.report:
        trained_elsewhere = []
        for position, name in enumerate(missing, 1):
            print(f'[{position}/{len(missing)}] {name.folder}', flush=True)
            try:
                train(name, ROOT, args.work_dirs, runs)
            except RunInProgressError as error:
                print(error, flush=True)
                trained_elsewhere.append(name)
                continue
            report(args.results)
        # 'all' may meet a run that was made elsewhere.
        can_draw = 'fig5' in args.tables or has_last_checkpoint(figure5, args.work_dirs, args.results)
        can_draw = can_draw and figure5 not in trained_elsewhere
        if 'fig5' in selected and can_draw and not is_figure5_of(figure5, args.work_dirs, args.results):
            draw_figure5(figure5, ROOT, args.work_dirs, args.results)
        if 'fig6' in selected:
            draw_figure6(args.mtfl_dir, args.work_dirs / 'fig6.png')
            print(args.work_dirs / 'fig6.png')
        if 'worst' in selected:
            show_worst_faces(args)
        if 'unseen' in selected:
            measure_on_unseen_rotations(args)
        if args.costs:
            for table in tables:
                costs = {'columns': costs_by_column(TABLES[table], ROOT / 'configs'), **environment()}
                path = args.results / f'{table}_costs.json'
                write_text_atomically(path, json.dumps(costs, indent=1) + '\n')
    report(args.results)


def show_worst_faces(args: argparse.Namespace) -> None:
    """Describe the worst faces of every MTFL run whose checkpoint is there."""
    for name in runs_with_checkpoints('worst', 'The worst faces', 'fig3', args.epochs, args):
        print(describe_worst_faces(name, ROOT, args.work_dirs, args.mtfl_root, args.mtfl_dir, args.results), flush=True)


def measure_on_unseen_rotations(args: argparse.Namespace) -> None:
    """Test every run of ``faces`` whose checkpoint is there and that was not tested yet."""
    for name in runs_with_checkpoints('unseen', 'The unseen rotations', 'faces', None, args):
        if not is_measured(name, args.work_dirs, args.results):
            data = (args.mtfl_dir, args.mtfl_unseen_dir)
            print(measure_unseen_rotations(name, ROOT, args.work_dirs, *data, args.results), flush=True)


def runs_with_checkpoints(
    figure: str, what: str, table: str, epochs: int | None, args: argparse.Namespace
) -> list[RunName]:
    """Return the finished runs of a table whose checkpoints are there, from trainings that have ended.

    Raises:
        FileNotFoundError: If there is none although ``figure`` was asked for by its name: 'all' may meet only runs that
            were made elsewhere.
    """
    names = [
        name
        for name in wanted([table], args.seeds, epochs)
        if is_finished(name, args.results / 'runs') and has_last_checkpoint(name, args.work_dirs, args.results)
    ]
    if not names and figure in args.tables:
        raise FileNotFoundError(
            f'{what} need a finished run of {table} with its checkpoint in {args.work_dirs}, but there is none for '
            f'these --seeds and --epochs. Finished runs are not trained again: give both calls another folder of '
            f'results, --results FOLDER, and train one first (tools/reproduce.py {table}).'
        )
    return names


def wanted(tables: list[str], seeds: list[int] | None, epochs: int | None) -> list[RunName]:
    """Return the runs that tables need, seed by seed, so that an interrupted reproduction has whole rows."""
    names = []
    for seed in range(max((TABLES[name].seeds for name in tables), default=0)) if seeds is None else seeds:
        for table in (TABLES[name] for name in tables):
            if seeds is not None or seed < table.seeds:
                full = epochs is None or epochs == table.epochs
                names += [RunName(config, seed, None if full else epochs) for config in table.columns.values()]
    return list(dict.fromkeys(names))


def report(results: Path) -> None:
    """Write the table, the data and the picture of every table that has a run, and RESULTS.md with the studies."""
    path = results / 'remarks.json'
    remarks = json.loads(path.read_text()) if path.is_file() else {}
    sections = [INTRODUCTION, targets_page(results / 'runs')]
    for name, table in TABLES.items():
        found = cells(table, results / 'runs')
        if not any(cell.values for cell in found):
            continue
        others = cells_of_other_schedules(table, results / 'runs')
        costs = results / f'{name}_costs.json'
        measured = json.loads(costs.read_text())['columns'] if costs.is_file() else None
        section = table_page(name, table, found, remarks, others, measured)
        figure = draw(table, found, results / 'runs')
        save_figure(figure, results / f'{name}.png')
        data = {
            'title': table.title,
            'cells': [cell.to_dict() for cell in found],
            'other_schedules': [cell.to_dict() for cell in others],
        }
        write_text_atomically(results / f'{name}.json', json.dumps(data, indent=1) + '\n')
        write_text_atomically(results / f'{name}.md', section)
        sections.append(f'{section}\n![{table.title}]({name}.png)\n')
    unseen = load_unseen_rotations(results)
    if unseen:
        save_figure(draw_unseen_rotations(unseen), results / f'{UNSEEN_ROTATIONS}.png')
        sections.append(unseen_rotations_page(unseen, remarks.get('unseen', '')))
    sections.append(figure5_page(results, remarks.get('fig5', '')))
    sections.append(worst_faces_page(results, remarks.get('worst', '')))
    studies = results / 'studies.md'
    sections.append(studies.read_text() if studies.is_file() else '')
    page = '\n'.join(filter(None, sections))
    if results.resolve() == (ROOT / 'results').resolve():
        # Beside README.md, where it is looked for; its pictures lie in the folder.
        write_text_atomically(ROOT / 'RESULTS.md', re.sub(r'(!\[[^]]*\]\()', r'\1results/', page))
    else:
        write_text_atomically(results / 'RESULTS.md', page)


def draw(table: Table, found: list[Cell], runs: Path) -> Figure:
    """Draw curves for the accuracies, as in Figure 4, and bars for all else, as in Figure 3."""
    if not table.curves:
        return draw_bars_by_row(found, table) if table.panel_per_row else draw_bars(found, table)
    # Rows of one quantity at two epochs are points of one curve.
    quantities = {
        quantity._replace(epoch=None, label=f'{"training" if quantity.training else "test"} {table.measure}'): None
        for quantity in table.quantities
    }
    curves = {column: chosen_runs(config, runs) for column, config in table.columns.items()}
    return draw_curves_over_seeds(curves, list(quantities), table)


if __name__ == '__main__':
    try:
        main(parse_args())
    except (OSError, ValueError, RunError) as error:
        sys.exit(f'error: {error}')
