"""Compares finished runs: a table on the screen, and their curves in one picture.

python tools/compare_runs.py work_dirs/mnist_baseline work_dirs/fg_mnist_nenc20_s5 --metrics accuracy/top1 --out out.png
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fg_plugin.visualization.comparison import draw_comparison
from fg_plugin.visualization.figures import save_figure


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare the metrics of finished runs.')
    parser.add_argument('runs', nargs='+', type=Path, help='folders that hold curves.json and metrics.json')
    parser.add_argument('--metrics', nargs='+', required=True, help='metrics to compare, such as accuracy/top1')
    parser.add_argument('--out', type=Path, help='PNG with the curves')
    return parser.parse_args()


def names_of(runs: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder's, or if these are not distinct, its path from the folder of all of them.

    Raises:
        ValueError: If a run is given twice.
    """
    paths = [run.resolve() for run in runs]
    twice = [str(run) for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise ValueError(f'runs should be different folders, but got {", ".join(twice)} for the same one.')
    names = [path.name for path in paths]
    if len({*names}) == len(names):
        return names
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def read(run: Path, name: str) -> dict:
    """Read a JSON file of a run.

    Raises:
        FileNotFoundError: If the run has none, because it is not finished or was trained without the hook.
        ValueError: If it is damaged.
    """
    path = run / name
    if not path.is_file():
        raise FileNotFoundError(
            f'{run} should be the work directory of a finished run, but has no {name} (CurvesHook and '
            f'FinalMetricsHook write it).'
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} should be a JSON file of a finished run, but is damaged: {error}') from error


def table(reports: dict[str, dict], metrics: list[str]) -> str:
    """Return the final metrics of the runs as a Markdown table.

    Raises:
        ValueError: If a run ended without one of the metrics.
    """
    header = ['run', 'parameters', 'epochs', 'seed', *metrics]
    lines = [header, ['---'] * len(header)]
    for name, report in reports.items():
        known = report['metrics']
        missing = [metric for metric in metrics if metric not in known]
        if missing:
            raise ValueError(
                f"metrics should be among those that run '{name}' ended with (metrics.json), which are "
                f"{sorted(known)}, but got '{missing[0]}'."
            )
        values = [f'{known[metric]:.2f}' for metric in metrics]
        lines.append([name, f'{report["parameters"]:,}', f'{report["epochs"]:g}', str(report['seed']), *values])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main(args: argparse.Namespace) -> None:
    runs = dict(zip(names_of(args.runs), args.runs, strict=True))
    curves = {name: read(run, 'curves.json')['val'] for name, run in runs.items()}
    figure = draw_comparison(curves, args.metrics)
    print(table({name: read(run, 'metrics.json') for name, run in runs.items()}, args.metrics))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, args.out)


if __name__ == '__main__':
    try:
        main(parse_args())
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
