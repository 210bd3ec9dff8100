"""The model benchmark as JSON and as a Markdown page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fg_plugin.benchmark.layer_benchmark import HOPELESS, MODES
from fg_plugin.benchmark.model_benchmark import ModelMeasurement, ModelSetting
from fg_plugin.benchmark.networks import REFERENCE
from fg_plugin.benchmark.report import CLOCK_TITLES
from fg_plugin.benchmark.verdict import ratios
from fg_plugin.layers.routed_cond_conv import NUM_EXPERTS
from fg_plugin.markdown import markdown_table

MODE_TITLES = {
    'inference': 'Inference: forward without gradients',
    'training': 'Training step: forward, loss, backward, SGD with momentum',
}


class Target(NamedTuple):
    """What a network with generated filters should need at most, relative to the static one."""

    time: float
    memory: float


TARGETS = {'lowrank': Target(1.15, 1.3), 'full': Target(1.35, 1.3), 'quarter': Target(0.7, 1.3)}


def to_json(
    environment: Mapping[str, object], parameters: Mapping[str, int], measurements: Sequence[ModelMeasurement]
) -> dict[str, Any]:
    """Return everything that was measured: times in seconds, memory in bytes."""
    return {
        'environment': dict(environment),
        'parameters': dict(parameters),
        'measurements': [
            {
                **m.setting._asdict(),
                'mode': m.mode,
                'times': {name: timing._asdict() for name, timing in m.times.items()},
                'peak_bytes': m.peaks,
            }
            for m in measurements
        ],
    }


def to_markdown(
    environment: Mapping[str, Any], parameters: Mapping[str, int], measurements: Sequence[ModelMeasurement]
) -> str:
    """Return the page."""
    parts = [_introduction(environment), _targets(measurements), _parameters(parameters)]
    for mode in MODES:
        chosen = [m for m in measurements if m.mode == mode]
        parts += [f'## {MODE_TITLES[mode]}\n', '### Time\n', _times_table(chosen)]
        parts += ['### Peak memory\n', _memory_table(chosen)]
    return '\n'.join(parts)


def _introduction(environment: Mapping[str, Any]) -> str:
    facts = ', '.join(f'{name} {environment[name]}' for name in ('python', 'torch', 'timm'))
    hardware = f'{environment["cpu"]} ({environment["cpu_capability"]}), threads: {environment["threads"]}'
    if environment['device'] != 'cpu':
        hardware = f'{environment["device"]} and {hardware}'
    return f"""# ResNet-18 with generated filters beside others

`{environment['command']}` on {hardware}; {facts}. The raw numbers, with quartiles and rounds, are in the JSON file
beside this page.

All networks of a row were timed in turn, round by round, in one process
({CLOCK_TITLES[environment['clock']]}), in float32{_compiled(environment)}.
A number is the median over the rounds, divided by the median of
`resnet18` (whose column is in milliseconds, or MiB). Parentheses: over {HOPELESS:.0f} times slower at first sight, and
timed once only.

- SE: `resnet18` with squeeze-and-excitation in every block. CondConv: its 3x3 convolutions are timm's `CondConv2d` with
  {NUM_EXPERTS} experts, routed by a linear layer on the pooled input.
- lowrank: `fg_resnet18` as it is by default. full: with `fg_head='full'` (M = N base filters in each layer, as in the
  paper). quarter: the same with `fg_num_base_filters=0.25` (M = N/4).
- Peak memory: how far the memory of tensors rises during the call above its level before. Parameters and the state of
  the optimizer are there before and not counted; gradients are counted.
"""


def _compiled(environment: Mapping[str, Any]) -> str:
    return ', compiled by `torch.compile` for the shapes of the row' if environment['compiled'] else ''


def _targets(measurements: Sequence[ModelMeasurement]) -> str:
    rows = []
    for name, target in TARGETS.items():
        if name not in measurements[0].times:
            continue
        for mode in MODES:
            found = [m for m in measurements if m.mode == mode]
            times = [(ratios(m.times, REFERENCE)[name], m.setting) for m in found]
            memory = [(m.peaks[name] / m.peaks[REFERENCE], m.setting) for m in found]
            rows.append([name, mode, *_against(times, target.time), *_against(memory, target.memory)])
    header = [
        '',
        'mode',
        'time, target',
        'lowest to highest',
        'met in',
        'memory, target',
        'lowest to highest',
        'met in',
    ]
    return f'## In short\n\nRelative to `resnet18`, over all settings:\n\n{markdown_table(header, rows)}\n'


def _against(values: Sequence[tuple[float, ModelSetting]], target: float) -> list[str]:
    numbers = [value for value, _ in values]
    met = sum(value <= target for value in numbers)
    return [f'{target:.2f}', f'{min(numbers):.2f} to {max(numbers):.2f}', f'{met} of {len(numbers)}']


def _parameters(parameters: Mapping[str, int]) -> str:
    row = [f'{count / 1e6:.1f} M' for count in parameters.values()]
    return f'Parameters:\n\n{markdown_table(list(parameters), [row])}\n'


def _times_table(measurements: Sequence[ModelMeasurement]) -> str:
    rows = []
    for m in measurements:
        relative = ratios(m.times, REFERENCE)
        cells = [f'({relative[name]:.1f})' if m.times[name].dropped else f'{relative[name]:.2f}' for name in _others(m)]
        rows.append([_describe(m.setting), f'{1e3 * m.times[REFERENCE].median:.3g}', *cells])
    return markdown_table(['', 'static, ms', *_others(measurements[0])], rows) + '\n'


def _memory_table(measurements: Sequence[ModelMeasurement]) -> str:
    rows = [
        [
            _describe(m.setting),
            f'{m.peaks[REFERENCE] / 2**20:.1f}',
            *(f'{m.peaks[name] / m.peaks[REFERENCE]:.2f}' for name in _others(m)),
        ]
        for m in measurements
    ]
    return markdown_table(['', 'static, MiB', *_others(measurements[0])], rows) + '\n'


def _others(measurement: ModelMeasurement) -> list[str]:
    return [name for name in measurement.times if name != REFERENCE]


def _describe(setting: ModelSetting) -> str:
    memory_format = 'channels_last' if setting.channels_last else 'contiguous'
    return f'B = {setting.batch}, {setting.side} px, {memory_format}'
