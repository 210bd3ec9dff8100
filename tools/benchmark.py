"""Measure the layer beside an ordinary convolution.

    python tools/benchmark.py layer [--out results/benchmark_layer.json] [--threads N] [--repeats R]

Times every path of FilterRepoConv, nn.Conv2d and timm's CondConv2d over a table of geometries on the CPU, measures
their peak memory, and says how well the cost model chose. Writes a JSON file and, beside it, a Markdown page.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track

from fg_plugin.benchmark.environment import environment
from fg_plugin.benchmark.geometries import Setting, settings
from fg_plugin.benchmark.layer_benchmark import measure_memory, measure_times
from fg_plugin.benchmark.report import to_json, to_markdown
from fg_plugin.benchmark.timing import CLOCKS


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    layer = commands.add_parser('layer', help='FilterRepoConv by path, nn.Conv2d and CondConv2d')
    layer.add_argument('--out', type=Path, default=Path('results/benchmark_layer.json'), help='JSON file to write')
    layer.add_argument('--threads', type=int, default=1, help='threads of torch')
    layer.add_argument('--repeats', type=int, default=9, help='rounds of measurement, each over all alternatives')
    layer.add_argument(
        '--max-seconds', type=float, default=1.0, help='begin no further round of a measurement after so long'
    )
    layer.add_argument(
        '--clock', choices=CLOCKS, default='wall', help="cpu: the process's CPU time, for a busy machine and one thread"
    )
    layer.add_argument('--only', default='', help='only geometries whose name holds this text')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    try:
        run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def run(args: argparse.Namespace) -> None:
    """Measure, then write the JSON file and the Markdown page.

    Raises:
        ValueError: If an argument is out of its range, or no geometry is called so.
    """
    for name in ('threads', 'repeats'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} should be at least 1, but got {getattr(args, name)}')
    if args.clock == 'cpu' and args.threads > 1:
        raise ValueError(f'--clock cpu adds up the time of all threads and needs --threads 1, but got {args.threads}')
    selected = [setting for setting in settings() if args.only in setting.geometry.name]
    if not selected:
        names = sorted({setting.geometry.name for setting in settings()})
        raise ValueError(f'--only should be part of one of {names}, but got {args.only!r}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    measurements = measure_times(track(selected, 'Timing'), args.repeats, args.max_seconds, args.clock)
    peaks = measure_memory(track(memory_settings(selected), 'Memory'))
    facts = {**environment(), 'clock': args.clock}
    args.out.write_text(json.dumps(to_json(facts, measurements, peaks), indent=1) + '\n')
    page = args.out.with_suffix('.md')
    page.write_text(to_markdown(facts, measurements, peaks))
    print(f'{args.out} and {page}: {len(measurements)} measurements')


def memory_settings(selected: Sequence[Setting]) -> list[Setting]:
    """Return the settings of the largest batch in the default format: the others' ratios differ little."""
    batch = max(setting.batch for setting in selected)
    return [setting for setting in selected if setting.batch == batch and not setting.channels_last]


if __name__ == '__main__':
    main()
