"""Landmark errors on faces that are rotated further than any in training."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from fg_plugin.atomic_write import write_text_atomically
from fg_plugin.benchmark.environment import environment
from fg_plugin.inference import load_model
from fg_plugin.markdown import markdown_table, mean_and_std
from fg_plugin.reproduction.faces import Faces, predict_faces
from fg_plugin.reproduction.paper import TABLES
from fg_plugin.reproduction.runs import RunName, last_checkpoint, when_trained

# Its columns are the networks to test; the first one is what the others are compared to.
_TABLE = TABLES['faces']
_FIRST = next(iter(_TABLE.columns))

UNSEEN_ROTATIONS = 'unseen_rotations'
_COMMAND = 'python tools/prepare_mtfl.py --mtfl-root data/MTFL --out-dir {} --angles 45 60'

# Width of the bands of rotations in degrees.
_BAND = 5

Results = dict[int, dict[str, Any]]


def result_path(name: RunName, results: Path) -> Path:
    """Return the file of a run's errors."""
    return results / UNSEEN_ROTATIONS / name.folder.with_suffix('.json')


def is_measured(name: RunName, work_dirs: Path, results: Path) -> bool:
    """Return whether there are errors of the last checkpoint, not of an earlier training of the run."""
    path = result_path(name, results)
    return path.is_file() and json.loads(path.read_text()).get('trained') == when_trained(name, work_dirs)


def measure_unseen_rotations(
    name: RunName, root: Path, work_dirs: Path, data_root: Path, unseen_root: Path, results: Path
) -> Path:
    """Test a finished run on the test faces as D-Rot has them and rotated further.

    Generated filters are tested on the latter once more, with the filters of the same faces as D-Rot has them.

    Args:
        name: The run.
        root: The checkout.
        work_dirs: Folder of the runs' work directories.
        data_root: MTFL as prepared for training.
        unseen_root: The same faces, all rotated further than any in ``data_root``.
        results: Folder to write to.

    Returns:
        The file with its errors.

    Raises:
        FileNotFoundError: If the run's checkpoint or the data are missing.
        ValueError: If the faces of ``unseen_root`` are others, or are not all rotated further.
    """
    checkpoint = last_checkpoint(name, work_dirs, results, 'The test on unseen rotations')
    if not (unseen_root / 'rot.npz').is_file():
        raise FileNotFoundError(
            f'The faces of unseen rotations are not prepared: {unseen_root / "rot.npz"} not found. Make them by '
            f'{_COMMAND.format(unseen_root)}'
        )
    loaded = load_model(root / 'configs' / f'{name.config}.py', checkpoint)
    seen, unseen = (predict_faces(loaded, 'rot', folder) for folder in (data_root, unseen_root))
    least, largest = float(unseen.angles.abs().min()), float(seen.angles.abs().max())
    if least < largest or unseen.names != seen.names:
        wrong = f'rotated by {least:.1f} degrees or more' if unseen.names == seen.names else 'other faces'
        raise ValueError(
            f'{unseen_root} should hold the test faces of {data_root}, all rotated by more than its {largest:.1f} '
            f'degrees, but holds {wrong}. Make it by {_COMMAND.format(unseen_root)}'
        )
    summary = {
        **name._asdict(),
        'trained': when_trained(name, work_dirs),
        'seen': _errors(seen),
        'unseen': _errors(unseen),
        'by_rotation': _errors_by_rotation(seen, unseen),
    }
    if loaded.hosts:
        # Tells what the generator has not learned from what the network has not.
        filters_seen = predict_faces(loaded, 'rot', unseen_root, filters_of=seen.images)
        summary['filters_seen'] = {
            'unseen': _errors(filters_seen),
            'by_rotation': _errors_by_rotation(filters_seen),
        }
    summary.update(environment())
    path = result_path(name, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(summary, indent=1) + '\n')
    return path


def unseen_rotations_page(found: Mapping[str, Results], remark: str) -> str:
    """Return the section of the unseen rotations.

    Args:
        found: The errors, as ``load_unseen_rotations`` returns them.
        remark: Sentences about them.
    """
    limit = _largest_seen(found)
    bands = sorted({tuple(band['degrees']) for band in _bands(found) if band['degrees'][0] >= limit})
    header = ['network', 'n', 'D-Rot', *(f'{least} to {largest} degrees' for least, largest in bands)]
    header += ['all unseen', f'all unseen, against {_FIRST}', 'maximal, unseen']
    reference = found.get(_FIRST, {})
    rows = []
    for column, seeds in found.items():
        rows.append(_row(column, seeds, {} if column == _FIRST else reference, bands))
        filters_seen = {seed: result['filters_seen'] for seed, result in seeds.items() if 'filters_seen' in result}
        if filters_seen:
            rows.append(_row(f'{column}, filters of the same faces in D-Rot', filters_seen, reference, bands))
    parts = [
        '## Unseen rotations: MTFL, errors on faces rotated further than in training (not in the paper)',
        markdown_table(header, rows),
        remark,
        f'![Mean error by rotation]({UNSEEN_ROTATIONS}.png)',
    ]
    return '\n\n'.join(filter(None, parts)) + '\n'


def draw_unseen_rotations(found: Mapping[str, Results]) -> Figure:
    """Draw the mean error by rotation, and how it differs from that of the first network: means over the seeds."""
    figure = Figure(figsize=(12, 5), dpi=110, layout='constrained')
    figure.suptitle('MTFL: errors on faces rotated further than in training')
    absolute, relative = figure.subplots(1, 2)
    reference = found.get(_FIRST, {})
    for number, (column, seeds) in enumerate(found.items()):
        style = {'color': f'C{number}', 'linestyle': ('-', '--')[number // 10 % 2]}
        middles = [sum(band['degrees']) / 2 for band in next(iter(seeds.values()))['by_rotation']]
        errors = {seed: _errors_of_bands(result) for seed, result in seeds.items()}
        absolute.plot(middles, _means(errors.values()), label=f'{column} (n = {len(seeds)})', **style)
        ratios = [
            [100 * (ours / first - 1) for ours, first in zip(curve, _errors_of_bands(reference[seed]), strict=True)]
            for seed, curve in errors.items()
            if seed in reference
        ]
        if ratios:
            relative.plot(middles, _means(ratios), **style)
    for axes in (absolute, relative):
        axes.axvline(_largest_seen(found), color='k', linestyle=':', label='largest rotation in training')
        axes.set_xlabel('rotation of the face (degrees)')
        axes.grid(alpha=0.3, which='both')
    absolute.set(ylabel=f'mean {_TABLE.measure} (%)', yscale='log')
    for formatter in (absolute.yaxis.set_major_formatter, absolute.yaxis.set_minor_formatter):
        formatter(ScalarFormatter())
    relative.set_ylabel(f'difference to the error of {_FIRST}, same seed (%)')
    absolute.legend(fontsize='small')
    return figure


def load_unseen_rotations(results: Path) -> dict[str, Results]:
    """Return the errors of all runs by column of the table and seed; a column without any is left out.

    Files of other names than those of runs, such as ``seed0_old.json``, are left alone.
    """
    found: dict[str, Results] = {}
    for column, config in _TABLE.columns.items():
        for path in (results / UNSEEN_ROTATIONS / config).glob('seed*.json'):
            summary = json.loads(path.read_text())
            if path == result_path(RunName(config, summary['seed']), results):
                found.setdefault(column, {})[summary['seed']] = summary
    return {column: dict(sorted(seeds.items())) for column, seeds in found.items()}


def _row(label: str, seeds: Results, reference: Results, bands: Sequence[tuple[int, ...]]) -> list[str]:
    by_band = [
        [band['mean'] for band in _bands({label: seeds}) if tuple(band['degrees']) == degrees] for degrees in bands
    ]
    differences = [
        result['unseen']['mean'] - reference[seed]['unseen']['mean']
        for seed, result in seeds.items()
        if seed in reference
    ]
    return [
        label,
        str(len(seeds)),
        mean_and_std([result['seen']['mean'] for result in seeds.values() if 'seen' in result]),
        *map(mean_and_std, by_band),
        mean_and_std([result['unseen']['mean'] for result in seeds.values()]),
        mean_and_std(differences, '+'),
        mean_and_std([result['unseen']['maximal'] for result in seeds.values()]),
    ]


def _bands(found: Mapping[str, Results]) -> list[dict[str, Any]]:
    return [band for seeds in found.values() for result in seeds.values() for band in result['by_rotation']]


def _errors_of_bands(result: Mapping[str, Any]) -> list[float]:
    return [band['mean'] for band in result['by_rotation']]


def _means(curves: Iterable[Sequence[float]]) -> list[float]:
    return [statistics.fmean(values) for values in zip(*curves, strict=True)]


def _largest_seen(found: Mapping[str, Results]) -> float:
    """Return the largest rotation in training, in degrees."""
    return max(result['seen']['degrees'][1] for seeds in found.values() for result in seeds.values())


def _errors(faces: Faces) -> dict[str, Any]:
    errors, angles = faces.errors(), faces.angles.abs()
    return {
        'faces': len(errors),
        'degrees': [round(float(angles.min()), 1), round(float(angles.max()), 1)],
        'mean': float(errors.mean()),
        'maximal': float(errors.max()),
    }


def _errors_by_rotation(*groups: Faces) -> list[dict[str, Any]]:
    """Return the mean error of the faces of each band of rotations, to either side."""
    errors = torch.cat([faces.errors().mean(1) for faces in groups])
    bands = torch.cat([faces.angles.abs() // _BAND for faces in groups])
    return [
        {
            'degrees': [int(band) * _BAND, (int(band) + 1) * _BAND],
            'faces': int((bands == band).sum()),
            'mean': float(errors[bands == band].mean()),
        }
        for band in bands.unique().tolist()
    ]
