"""Measure the layer beside an ordinary convolution, and whole networks beside each other.

    python tools/benchmark.py layer [--out results/benchmark_layer.json] [--threads N] [--repeats R]
    python tools/benchmark.py model [--out results/benchmark_model.json] [--threads N] [--repeats R] [--device cuda]
    python tools/benchmark.py model --compile --networks lowrank --out results/benchmark_compiled.json

layer: times every path of FilterRepoConv, nn.Conv2d and timm's CondConv2d over a table of geometries on the CPU,
measures their peak memory, and says how well the cost model chose. model: a ResNet-18 with generated filters beside the
static one, one with squeeze-and-excitation and one of CondConv2d, in inference and in a training step. Each writes a
JSON file and, beside it, a Markdown page.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from fg_plugin.benchmark import model_report, report
from fg_plugin.benchmark.environment import environment
from fg_plugin.benchmark.geometries import Setting, settings
from fg_plugin.benchmark.layer_benchmark import measure_memory, measure_times
from fg_plugin.benchmark.model_benchmark import ModelSetting, count_parameters, measure_models
from fg_plugin.benchmark.networks import NETWORKS, REFERENCE
from fg_plugin.benchmark.result_files import json_path, write_results
from fg_plugin.benchmark.timing import CLOCKS
from fg_plugin.optional_packages import require


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    layer = commands.add_parser('layer', help='FilterRepoConv by path, nn.Conv2d and CondConv2d')
    layer.add_argument('--only', default='', help='only geometries whose name holds this text')
    layer.set_defaults(run=run_layer)
    model = commands.add_parser('model', help='ResNet-18: static, with SE, of CondConv2d, with generated filters')
    model.add_argument('--batches', type=int, nargs='+', default=[1, 16], help='batch sizes')
    model.add_argument('--sides', type=int, nargs='+', default=[64, 224], help='sides of the images')
    model.add_argument(
        '--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS), help='only these, always beside static'
    )
    model.add_argument('--compile', action='store_true', help='compile the networks first, by torch.compile')
    model.add_argument('--device', default='cpu', help='cpu, or a GPU such as cuda')
    model.set_defaults(run=run_model)
    for command, max_seconds in ((layer, 1.0), (model, 10.0)):
        out = Path(f'results/benchmark_{"layer" if command is layer else "model"}.json')
        command.add_argument('--out', type=json_path, default=out, help='JSON file to write')
        command.add_argument('--threads', type=int, default=1, help='threads of torch')
        command.add_argument('--repeats', type=int, default=9, help='rounds of measurement, each over all alternatives')
        command.add_argument(
            '--max-seconds',
            type=float,
            default=max_seconds,
            help='begin no further round of a measurement after so long (default: %(default)s)',
        )
        command.add_argument(
            '--clock',
            choices=CLOCKS,
            default='wall',
            help="cpu: the process's CPU time, for a busy machine and one thread",
        )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    try:
        check(args)
        args.run(args)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f'error: {error}')


def check(args: argparse.Namespace) -> None:
    """Check the arguments that both commands take.

    Raises:
        ModuleNotFoundError: Without rich, which draws the progress bars.
        ValueError: If one is out of its range.
    """
    for name in ('threads', 'repeats'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} should be at least 1, but got {getattr(args, name)}')
    if args.clock == 'cpu' and args.threads > 1:
        raise ValueError(f'--clock cpu adds up the time of all threads and needs --threads 1, but got {args.threads}')
    require('The progress bar', 'analysis', 'rich')


def run_layer(args: argparse.Namespace) -> None:
    """Measure the layer.

    Raises:
        ValueError: If no geometry is called so.
    """
    from rich.progress import track

    selected = [setting for setting in settings() if args.only in setting.geometry.name]
    if not selected:
        names = sorted({setting.geometry.name for setting in settings()})
        raise ValueError(f'--only should be part of one of {names}, but got {args.only!r}')
    torch.set_num_threads(args.threads)
    measurements = measure_times(track(selected, 'Timing'), args.repeats, args.max_seconds, args.clock)
    peaks = measure_memory(track(memory_settings(selected), 'Memory'))
    facts = {**environment(), 'clock': args.clock}
    write(args.out, report.to_json(facts, measurements, peaks), report.to_markdown(facts, measurements, peaks))


def run_model(args: argparse.Namespace) -> None:
    """Measure whole networks.

    Raises:
        ValueError: If a size is out of its range, or the device does not fit.
    """
    from rich.progress import track

    for name, minimum in (('batches', 1), ('sides', 32)):
        if min(getattr(args, name)) < minimum:
            raise ValueError(f'--{name} should be at least {minimum}, but got {getattr(args, name)}')
    facts: dict[str, object] = {
        **environment(),
        'clock': args.clock,
        'device': device_name(args.device, args.clock),
        'compiled': args.compile,
    }
    torch.set_num_threads(args.threads)
    facts['threads'] = args.threads
    selected = [
        ModelSetting(batch, side, channels_last)
        for batch in args.batches
        for side in args.sides
        for channels_last in (False, True)
    ]
    networks = [name for name in NETWORKS if name == REFERENCE or name in args.networks]
    measurements = measure_models(
        track(selected, 'Measuring'),
        networks,
        args.repeats,
        args.max_seconds,
        args.clock,
        args.device,
        args.compile,
    )
    parameters = count_parameters(networks)
    write(
        args.out,
        model_report.to_json(facts, parameters, measurements),
        model_report.to_markdown(facts, parameters, measurements),
    )


def device_name(device: str, clock: str) -> str:
    """Return what the report calls ``device``.

    Raises:
        ValueError: If it is not there, or ``clock`` cannot time it.
    """
    if device == 'cpu':
        return device
    gpus = [f'cuda:{index}' for index in range(torch.cuda.device_count())]
    if not gpus or device not in ('cuda', *gpus):
        raise ValueError(f"--device should be cpu, or cuda where torch finds a GPU, but got '{device}'")
    if clock == 'cpu':
        raise ValueError('--clock cpu does not see the time of a GPU: use --clock wall')
    return torch.cuda.get_device_name(device)


def write(out: Path, numbers: dict, page: str) -> None:
    """Write the JSON file and the Markdown page beside it."""
    beside = write_results(out, json.dumps(numbers, indent=1) + '\n', page)
    print(f'{out} and {beside}: {len(numbers["measurements"])} measurements')


def memory_settings(selected: Sequence[Setting]) -> list[Setting]:
    """Return the settings of the largest batch in the default format: the others' ratios differ little."""
    batch = max(setting.batch for setting in selected)
    return [setting for setting in selected if setting.batch == batch and not setting.channels_last]


if __name__ == '__main__':
    main()
