"""The layer benchmark as JSON and as a Markdown page."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fg_plugin.benchmark.geometries import Setting
from fg_plugin.benchmark.layer_benchmark import CLOSER_LOOK, HOPELESS, MODES, Measurement
from fg_plugin.benchmark.variants import CODE_DIM, HEAD_SPECS, MAX_MACS_RATIO, RANK
from fg_plugin.benchmark.verdict import TOLERANCE, ratios, wins
from fg_plugin.layers.compute_paths import PATHS
from fg_plugin.layers.routed_cond_conv import NUM_EXPERTS
from fg_plugin.markdown import markdown_table

Peaks = Sequence[tuple[Setting, str, dict[str, int]]]

HEADS = tuple(spec.name for spec in HEAD_SPECS)
CLOCK_TITLES = {'wall': 'wall clock time', 'cpu': 'CPU time of the process'}
MODE_TITLES = {'inference': 'Inference: forward', 'training': 'Training: forward and backward'}


def to_json(environment: dict[str, object], measurements: Iterable[Measurement], peaks: Peaks) -> dict[str, Any]:
    """Return everything that was measured: times in seconds, memory in bytes."""
    return {
        'environment': environment,
        'measurements': [
            {
                **_setting_json(measurement.setting),
                'mode': measurement.mode,
                'times': {name: timing._asdict() for name, timing in measurement.times.items()},
                'skipped': measurement.skipped,
                'closer_look': {name: timing._asdict() for name, timing in measurement.closer_look.items()},
                'verdicts': [{**verdict._asdict(), 'holds': verdict.holds} for verdict in measurement.verdicts()],
            }
            for measurement in measurements
        ],
        'peak_bytes': [
            {**_setting_json(setting), 'mode': mode, 'peak_bytes': by_variant} for setting, mode, by_variant in peaks
        ],
    }


def _setting_json(setting: Setting) -> dict[str, Any]:
    return {**setting.geometry._asdict(), 'batch': setting.batch, 'channels_last': setting.channels_last}


def to_markdown(environment: dict[str, Any], measurements: Sequence[Measurement], peaks: Peaks) -> str:
    """Return the page."""
    parts = [_introduction(environment), _summary(measurements), _choice(measurements)]
    for mode in MODES:
        parts.append(f'## {MODE_TITLES[mode]}\n')
        for batch, channels_last in sorted({(m.setting.batch, m.setting.channels_last) for m in measurements}):
            chosen = [
                m
                for m in measurements
                if (m.mode, m.setting.batch, m.setting.channels_last) == (mode, batch, channels_last)
            ]
            parts += [f'### B = {batch}, {_format_name(channels_last)}\n', _times_table(chosen)]
    parts += ['## Peak memory\n', _memory_text(), *(_memory_table(peaks, mode) for mode in MODES)]
    return '\n'.join(parts)


def _introduction(environment: dict[str, Any]) -> str:
    facts = ', '.join(f'{name} {environment[name]}' for name in ('python', 'torch', 'timm'))
    return f"""# The layer beside nn.Conv2d and CondConv2d

`{environment['command']}` on {environment['cpu']} ({environment['cpu_capability']}), threads: {environment['threads']};
{facts}. The raw numbers, with quartiles and rounds, are in the JSON file beside this page.

All alternatives of a row were timed in turn, round by round, in one process ({CLOCK_TITLES[environment['clock']]}).
A number is the median over the rounds, divided by the median of `nn.Conv2d` (whose column is in
milliseconds); no convolution has a bias.

- F = factored, M = materialised, U = unfolded, S = shared (one code for the whole batch): the layer's paths, from
  given coefficients, as CondConv2d ({NUM_EXPERTS} experts) starts from given routing weights.
- **Bold**: the path that the cost model chooses. Parentheses: over {HOPELESS:.0f} times slower than the best path at
  first sight, and timed once only. A dash: not run, as its convolutions make at least {MAX_MACS_RATIO:.0f} times the
  multiplications of `nn.Conv2d`.
- layer = the whole `FilterRepoConv` with `path='auto'`: the head (codes of length {CODE_DIM}), the choice, the path. A
  full head has L_f N M parameters, which is what this number shows for wide layers at small resolutions.
- Heads: full (M = N base filters), quarter (full, with M = N/4 base filters), lowrank (rank {RANK}, M = N).
"""


def _summary(measurements: Sequence[Measurement]) -> str:
    lines = ['## In short\n', 'Median over the table of the time relative to `nn.Conv2d` (lowest to highest):\n']
    columns = ['condconv', *(f'{head}/{what}' for head in HEADS for what in ('chosen path', 'layer'))]
    rows = []
    for mode in MODES:
        for batch in sorted({m.setting.batch for m in measurements}):
            found = [_with_chosen(m) for m in measurements if (m.mode, m.setting.batch) == (mode, batch)]
            rows.append([f'{mode}, B = {batch}', *(_range([row[column] for row in found]) for column in columns)])
    return '\n'.join([*lines, markdown_table(['', *(column.replace('/', ', ') for column in columns)], rows), ''])


def _with_chosen(measurement: Measurement) -> dict[str, float]:
    relative = ratios(measurement.times)
    return {
        **relative,
        **{f'{head}/chosen path': relative[f'{head}/{path}'] for head, path in measurement.chosen.items()},
    }


def _choice(measurements: Sequence[Measurement]) -> str:
    verdicts = [(m, verdict) for m in measurements for verdict in m.verdicts()]
    slowdowns = [verdict.slowdown for _, verdict in verdicts]
    above = [(m, verdict) for m, verdict in verdicts if not verdict.holds]
    distinct = sum(not verdict.within_spread for _, verdict in above)
    count = wins(measurements)
    closer = [f'{verdict.head}/{verdict.best}' in m.closer_look for m, verdict in verdicts]
    best = np.mean([slowdown == 0 for slowdown in slowdowns])
    lines = [
        '## The choice of the path\n',
        f'In {len(verdicts) - len(above)} of {len(verdicts)} cases (setting, mode, head) the chosen path is at most '
        f'{TOLERANCE:.0%} slower than the best one. It is the best one in {best:.0%}; on average it is '
        f'{np.mean(slowdowns):.1%} slower, at most {max(slowdowns):.1%}. Where a first measurement put the chosen path '
        f'above the limit, the paths were timed again with {CLOSER_LOOK} times the rounds, and this counts: '
        f'{sum(closer)} cases.\n',
        markdown_table(
            ['path', 'best', 'chosen'], [[path, str(count[path]['best']), str(count[path]['chosen'])] for path in PATHS]
        ),
        '',
    ]
    if above:
        lines += [
            f'Above {TOLERANCE:.0%} ({distinct} of them by more than the spread between the quartiles):\n',
            markdown_table(
                ['setting', 'mode', 'head', 'chosen', 'best', 'slower by', 'within the spread'],
                [
                    [
                        m.setting.describe(),
                        m.mode,
                        verdict.head,
                        f'{verdict.chosen} {_spread(m, verdict.head, verdict.chosen)}',
                        f'{verdict.best} {_spread(m, verdict.head, verdict.best)}',
                        f'{verdict.slowdown:.0%}',
                        'yes' if verdict.within_spread else 'no',
                    ]
                    for m, verdict in above
                ],
            ),
            '',
        ]
    return '\n'.join(lines)


def _spread(measurement: Measurement, head: str, path: str) -> str:
    timing = {**measurement.times, **measurement.closer_look}[f'{head}/{path}']
    low, high = (1e3 * quartile for quartile in timing.quartiles)
    return f'{1e3 * timing.median:.3g} ms ({low:.3g} to {high:.3g}, n={timing.rounds})'


def _times_table(measurements: Sequence[Measurement]) -> str:
    header = ['geometry', 'nn.Conv2d, ms', 'CondConv']
    header += [f'{head}: F / M / U / S, layer' for head in HEADS]
    header += ['slowdown of the choice']
    rows = []
    for m in measurements:
        cells = [f'{m.setting.geometry.name} {m.setting.geometry.describe()}', f'{1e3 * m.times["conv"].median:.3g}']
        cells += [f'{ratios(m.times)["condconv"]:.2f}']
        cells += [_head_cell(m, head) for head in HEADS]
        cells += [' / '.join(f'{verdict.slowdown:.0%}' for verdict in m.verdicts())]
        rows.append(cells)
    return markdown_table(header, rows) + '\n'


def _head_cell(measurement: Measurement, head: str) -> str:
    relative = ratios(measurement.times)
    cells = []
    for path in (*PATHS, 'shared'):
        name = f'{head}/{path}'
        if name not in relative:
            cells.append('-')
        elif path == measurement.chosen[head]:
            cells.append(f'**{relative[name]:.2f}**')
        elif measurement.times[name].dropped:
            cells.append(f'({relative[name]:.2g})')
        else:
            cells.append(f'{relative[name]:.2f}')
    return f'{" / ".join(cells)}, {relative[f"{head}/layer"]:.2f}'


def _memory_text() -> str:
    return (
        'How far the memory of tensors rises during the call above its level before (input and parameters are not '
        'counted; output, what is saved for backward, gradients of input and parameters, and temporary tensors are): '
        "the peak of the running sum of the profiler's allocation events. The events include the temporary tensors "
        'that a count of saved tensors would miss. MiB for `nn.Conv2d`, ratios to it otherwise.\n'
    )


def _memory_table(peaks: Peaks, mode: str) -> str:
    header = ['geometry', 'nn.Conv2d, MiB', 'CondConv', *(f'{head}: F / M / U / S, layer' for head in HEADS)]
    rows = []
    for setting, found_mode, peak in peaks:
        if found_mode != mode:
            continue
        cells = [f'{setting.geometry.name} {setting.geometry.describe()} B={setting.batch}']
        cells += [f'{peak["conv"] / 2**20:.2f}', f'{peak["condconv"] / peak["conv"]:.1f}']
        for head in HEADS:
            names = [f'{head}/{path}' for path in (*PATHS, 'shared')]
            by_path = [f'{peak[name] / peak["conv"]:.1f}' if name in peak else '-' for name in names]
            cells.append(f'{" / ".join(by_path)}, {peak[f"{head}/layer"] / peak["conv"]:.1f}')
        rows.append(cells)
    return f'### {MODE_TITLES[mode]}\n\n{markdown_table(header, rows)}\n'


def _format_name(channels_last: bool) -> str:
    return 'channels_last' if channels_last else 'contiguous'


def _range(values: Sequence[float]) -> str:
    return f'{np.median(values):.2f} ({min(values):.2f} to {max(values):.1f})'
