"""Converts every architecture of timm and checks the result.

    python tools/zoo_sweep.py shapes [--only PATTERN] [--processes 2]
    python tools/zoo_sweep.py values [--only PATTERN] [--processes 2]
    python tools/zoo_sweep.py report [--out results/zoo.json]

shapes: all architectures on the meta device: convert, forward, memory kept for the backward pass, revert.
values: the smallest architecture of each model class, with numbers: equal to the host after the conversion; after that
with other coefficients: independent of the rest of the batch, gradients, revert, freeze.
report: writes what both found as a JSON file and, beside it, a Markdown page.

A sweep that was interrupted goes on where it was; architectures that failed are checked again.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from fg_plugin.benchmark.environment import environment
from fg_plugin.benchmark.result_files import json_path, write_results
from fg_plugin.optional_packages import require
from fg_plugin.sweep.architectures import choose_architectures, measure_size, smallest_of_each_class
from fg_plugin.sweep.page import Results, to_json, to_markdown
from fg_plugin.sweep.record import Record
from fg_plugin.sweep.record_file import RecordFile
from fg_plugin.sweep.shapes import check_shapes
from fg_plugin.sweep.values import check_values
from fg_plugin.sweep.workers import Check, run_checks

CHECKS: dict[str, Check] = {'shapes': check_shapes, 'values': check_values, 'sizes': measure_size}
SPREAD = 16


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('check', choices=['shapes', 'values', 'report'])
    parser.add_argument('--only', metavar='PATTERN', help='a name or a pattern of names, such as "resnet*"')
    parser.add_argument('--processes', type=int, default=1, help='architectures checked at the same time')
    parser.add_argument('--timeout', type=float, default=900, help='seconds for one architecture')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/zoo_sweep'), help='where records are kept')
    parser.add_argument('--out', type=json_path, default=Path('results/zoo.json'), help='JSON file that report writes')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    try:
        sweep(args)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f'error: {error}')


def sweep(args: argparse.Namespace) -> None:
    """Check what is not checked yet, and print the failures.

    Raises:
        ValueError: For an unknown architecture, or an argument out of its range.
    """
    for name in ('processes', 'timeout'):
        if getattr(args, name) <= 0:
            raise ValueError(f'--{name} should be positive, but got {getattr(args, name)}')
    names = choose_architectures(args.only)
    if args.check == 'report':
        report(args)
        return
    if args.check == 'values':
        names = smallest_of_each_class(check_missing('sizes', names, args))
    records = check_missing(args.check, names, args)
    failed = sum(not record.passed for record in records)
    print(f'{args.check}: {len(names) - failed} of {len(names)} architectures passed')
    if failed:
        sys.exit(1)


def report(args: argparse.Namespace) -> None:
    """Write what is known of the chosen architectures as JSON and, beside it, as a Markdown page.

    Raises:
        FileNotFoundError: If a check was not started yet.
    """
    files = {}
    for check in ('sizes', 'shapes', 'values'):
        path = args.work_dir / f'{check}.jsonl'
        if not path.exists():
            command = 'shapes' if check == 'shapes' else 'values'
            raise FileNotFoundError(f'{path} does not exist: run "python tools/zoo_sweep.py {command}" first')
        files[check] = RecordFile(path, environment())
    names = choose_architectures(args.only)
    smallest = smallest_of_each_class(files['sizes'].records[name] for name in names if name in files['sizes'].records)
    shapes = Results(files['shapes'].environment, files['shapes'].records, names)
    values = Results(files['values'].environment, files['values'].records, smallest)
    page = write_results(args.out, to_json(shapes, values), to_markdown(shapes, values))
    print(f'{args.out} and {page}: {len(names)} architectures')


def check_missing(check: str, names: Sequence[str], args: argparse.Namespace) -> list[Record]:
    """Check those of ``names`` that have not passed yet; return the records of all.

    Raises:
        ModuleNotFoundError: Without rich, which draws the progress bar.
    """
    require('The progress bar', 'analysis', 'rich')
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    file = RecordFile(args.work_dir / f'{check}.jsonl', environment())
    missing = [name for name in names if name not in file.records or not file.records[name].passed]
    # Neighbours are of one family and mostly pass or fail together: spread, so that failures show early.
    missing = [name for start in range(SPREAD) for name in missing[start::SPREAD]]
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results = run_checks(CHECKS[check], missing, args.processes, args.timeout)
    with closing(results), Progress(*columns) as progress:
        task = progress.add_task(check, total=len(names), completed=len(names) - len(missing))
        for record in results:
            file.add(record)
            progress.advance(task)
            for failure in record.failures:
                progress.console.print(f'{record.architecture}: {failure}', markup=False, highlight=False)
    return [file.records[name] for name in names]


if __name__ == '__main__':
    main()
