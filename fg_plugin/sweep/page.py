"""The results of a sweep as JSON and as a Markdown page."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fg_plugin.sweep.record import Record
from fg_plugin.sweep.shapes import BATCH, MAX_MEMORY_RATIO
from fg_plugin.sweep.values import MAX_ERROR_FLOAT32, MAX_ERROR_FLOAT64, MAX_ERROR_OTHER_PATH

# Errors in ``Record.facts`` of the check of values, and what they compare.
ERRORS = {
    'float32': 'converted and host, float32',
    'float64': 'converted and host, float64',
    'alone': 'a sample alone and in its batch, float64',
    'frozen': 'frozen and conditioned on the same image, float64',
}


class Results(NamedTuple):
    """What one check found.

    Attributes:
        environment: See ``fg_plugin.benchmark.environment``.
        records: By architecture.
        names: Architectures that should be checked.
    """

    environment: Mapping[str, Any]
    records: Mapping[str, Record]
    names: Sequence[str]

    @property
    def checked(self) -> list[Record]:
        """Records of the architectures that were checked."""
        return [self.records[name] for name in self.names if name in self.records]

    @property
    def failed(self) -> list[Record]:
        """Records of the architectures that were checked and did not pass."""
        return [record for record in self.checked if not record.passed]

    @property
    def missing(self) -> list[str]:
        """Architectures that were not checked."""
        return [name for name in self.names if name not in self.records]


def to_json(shapes: Results, values: Results) -> str:
    """Return everything that was found, one line an architecture."""
    environments = json.dumps({'shapes': shapes.environment, 'values': values.environment}, indent=1)
    lines = ',\n'.join(
        json.dumps({'architecture': name, 'shapes': _without_name(shapes, name), 'values': _without_name(values, name)})
        for name in shapes.names
    )
    return f'{{"environment": {environments},\n"architectures": [\n{lines}\n]}}\n'


def _without_name(results: Results, name: str) -> dict[str, Any] | None:
    if name not in results.names or name not in results.records:
        return None
    record = results.records[name]._asdict()
    del record['architecture']
    return record


def to_markdown(shapes: Results, values: Results) -> str:
    """Return the page."""
    parts = [_introduction(shapes, values), _failures(shapes, values), _skipped(shapes), _memory(shapes)]
    parts += [_errors(values), _architectures(shapes, values)]
    return '\n'.join(part for part in parts if part)


def _introduction(shapes: Results, values: Results) -> str:
    return f"""# timm's architectures with generated filters

{_verdict(shapes)} the check of shapes: on the meta device, conversion with the default options, a forward of
{BATCH} images in training, at most {MAX_MEMORY_RATIO} times the host's memory for the backward, and `revert_` to the
modules, keys and parameters of the host.

{_verdict(values)} the check of values, the smallest of each model class: equal to the host right after the
conversion (relative error below {MAX_ERROR_FLOAT32:g} in float32, {MAX_ERROR_FLOAT64:g} in float64). With noise in the
coefficient heads the output moves, also with the filters of another sample; a sample alone equals itself in a batch
(below {MAX_ERROR_OTHER_PATH:g}); every parameter of the generator and of the layers gets a gradient that is finite and
not zero; `revert_` restores output and state dict bit for bit; `freeze_` with an image equals `conditioned_on` it.
Host parameters that are initialised with zeros or tiny constants (such as LayerScale) hold noise instead, because they
would hide the convolutions before them. The input is the smallest of 96 to 224 pixels that converts all the same
convolutions, or else the architecture's own.

{_environment('shapes', shapes.environment)}
{_environment('values', values.environment)}

An architecture has a line in the JSON file beside this page, with sizes of input, parameters and memory, and seconds
(of a machine shared with other work).
"""


def _verdict(results: Results) -> str:
    checked = len(results.names) - len(results.missing)
    passed = checked - len(results.failed)
    missing = f' ({len(results.missing)} not checked)' if results.missing else ''
    return f'**{passed} of {len(results.names)} architectures pass**{missing}'


def _environment(check: str, environment: Mapping[str, Any]) -> str:
    versions = ', '.join(f'{name} {environment[name]}' for name in ('python', 'torch', 'timm'))
    return f'- {check}: `{environment["command"]}`; {versions}; {environment["cpu"]}, one thread a process.'


def _failures(shapes: Results, values: Results) -> str:
    rows = [
        [record.architecture, check, '<br>'.join(_cell(failure) for failure in record.failures)]
        for check, results in (('shapes', shapes), ('values', values))
        for record in results.failed
    ]
    return f'## Failures\n\n{_table(["architecture", "check", "cause"], rows)}\n' if rows else ''


def _skipped(shapes: Results) -> str:
    architectures: Counter[str] = Counter()
    convs: Counter[str] = Counter()
    for record in shapes.checked:
        for reason, count in record.facts.get('skipped', {}).items():
            architectures[reason] += 1
            convs[reason] += count
    total = sum(record.facts.get('convs', 0) for record in shapes.checked)
    converted = sum(record.facts.get('converted', 0) for record in shapes.checked)
    rows = [[_cell(reason), str(convs[reason]), str(number)] for reason, number in architectures.most_common()]
    return (
        f'## Convolutions that stay static\n\n{converted:,} of {total:,} convolutions are converted. The others:\n\n'
        f'{_table(["why", "convolutions", "architectures"], rows)}\n'
    )


def _memory(shapes: Results) -> str:
    ratios = sorted(
        ((record.facts['memory_ratio'], record.architecture) for record in shapes.checked if _has_memory(record)),
        reverse=True,
    )
    if not ratios:
        return ''
    limits = (1.05, 1.1, 1.2, 1.3, 1.4, MAX_MEMORY_RATIO)
    rows = [[f'up to {limit:g}', str(sum(ratio <= limit for ratio, _ in ratios))] for limit in limits]
    worst = ', '.join(f'`{name}` {ratio:.2f}' for ratio, name in ratios[:10])
    return (
        f'## Memory for the backward pass\n\nBytes of the distinct storages that a forward of {BATCH} images in '
        f'training saves, without parameters and buffers, relative to the host. Attention counts as one operation '
        f'that keeps no attention maps. The largest: {worst}.\n\n{_table(["ratio", "architectures"], rows)}\n'
    )


def _has_memory(record: Record) -> bool:
    return 'memory_ratio' in record.facts


def _errors(values: Results) -> str:
    rows = []
    for error, title in ERRORS.items():
        found = sorted((record.facts[error], record.architecture) for record in values.checked if error in record.facts)
        if found:
            rows.append([title, f'{found[len(found) // 2][0]:.1e}', f'{found[-1][0]:.1e}', found[-1][1]])
    return f'## Relative errors\n\n{_table(["between", "median", "largest", "of"], rows)}\n' if rows else ''


def _architectures(shapes: Results, values: Results) -> str:
    header = ['architecture', 'converted', 'static, and why', 'parameters', 'memory', 'error: float32, float64, alone']
    rows = [
        [name, *_shape_cells(shapes.records.get(name)), _error_cell(values.records.get(name))] for name in shapes.names
    ]
    return f'## All architectures\n\n{_table(header, rows)}\n'


def _shape_cells(record: Record | None) -> list[str]:
    if record is None or not _has_memory(record):
        return ['not checked' if record is None else 'failed', '', '', '']
    facts = record.facts
    before, after = facts['parameters']
    skipped = '; '.join(f'{count}: {_cell(reason)}' for reason, count in facts['skipped'].items())
    return [
        f'{facts["converted"]}/{facts["convs"]}',
        skipped,
        f'{after / before - 1:+.1%}',
        f'{facts["memory_ratio"]:.2f}',
    ]


def _error_cell(record: Record | None) -> str:
    if record is None:
        return ''
    return ', '.join(f'{record.facts[name]:.0e}' if name in record.facts else '-' for name in list(ERRORS)[:3])


def _cell(text: str) -> str:
    return ' '.join(text.replace('|', '\\|').split())


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (header, ['---'] * len(header), *rows))
