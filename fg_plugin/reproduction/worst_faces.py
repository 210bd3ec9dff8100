"""The test faces with the largest landmark errors, and what they have in common."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from fg_plugin.atomic_write import write_text_atomically
from fg_plugin.benchmark.environment import environment
from fg_plugin.datasets.landmark_names import LANDMARK_NAMES
from fg_plugin.datasets.mtfl_annotations import FaceAnnotation, read_mtfl_annotations
from fg_plugin.inference import load_model
from fg_plugin.markdown import markdown_table
from fg_plugin.reproduction.faces import Faces, predict_faces
from fg_plugin.reproduction.runs import RunName, last_checkpoint
from fg_plugin.visualization.figures import save_figure
from fg_plugin.visualization.landmark_grid import LandmarkRow, draw_landmark_grid

NUM_WORST = 10
# In percent of the interocular distance: as far as a landmark may lie from its place without being called wrong.
TOLERANCE = 10.0
# In degrees; D-Rot rotates by up to 45.
STRONG_ROTATION = 30.0


def describe_worst_faces(
    name: RunName, root: Path, work_dirs: Path, mtfl_root: Path, data_root: Path, results: Path
) -> Path:
    """Find the worst test faces of a finished run, by the largest error of a landmark.

    Writes ``results/worst/<run>.json`` and, without the faces, ``.png``. The picture with the faces goes to
    ``work_dirs``, because MTFL's images must not be passed on.

    Args:
        name: The run.
        root: The checkout.
        work_dirs: Folder of the runs' work directories.
        mtfl_root: Folder of MTFL's ``training.txt``, which holds the faces' attributes.
        data_root: The prepared MTFL.
        results: Folder to write to.

    Returns:
        The picture with the faces.

    Raises:
        FileNotFoundError: If the run's checkpoint or the data are missing.
    """
    checkpoint = last_checkpoint(name, work_dirs, results, 'The picture of the worst faces')
    config = root / 'configs' / f'{name.config}.py'
    variant = Config.fromfile(config).test_dataloader.dataset.variant
    faces = predict_faces(load_model(config, checkpoint), variant, data_root)
    by_name = {annotation.name: annotation for annotation in read_mtfl_annotations(mtfl_root / 'training.txt')}
    annotations = [by_name[face] for face in faces.names]
    errors = faces.errors()
    worst = errors.amax(1).argsort(descending=True)[:NUM_WORST]
    summary: dict[str, Any] = {'config': name.config, 'seed': name.seed, 'epochs': name.epochs}
    summary['faces'] = [_describe(faces, errors, annotations, int(index)) for index in worst]
    summary['traits'] = {
        trait: {'worst': int(mask[worst].sum()), 'all': float(mask.double().mean())}
        for trait, mask in traits(faces, annotations).items()
    }
    summary.update(test_faces=len(errors), **environment())
    stem = str(name.folder).replace('/', '-')
    title = f'{name.folder}: test faces with the largest error, in % of the interocular distance'
    out = work_dirs / 'worst' / f'{stem}.png'
    for path, images in ((out, faces.images), (results / 'worst' / f'{stem}.png', torch.zeros_like(faces.images))):
        path.parent.mkdir(parents=True, exist_ok=True)
        captions = [f'{error:.0f} %' for error in errors.amax(1)[worst].tolist()]
        row = LandmarkRow('', images[worst], faces.predicted[worst], faces.truth[worst], captions)
        save_figure(draw_landmark_grid([row], title=title), path)
    write_text_atomically(results / 'worst' / f'{stem}.json', json.dumps(summary, indent=1) + '\n')
    return out


def traits(faces: Faces, annotations: Sequence[FaceAnnotation]) -> dict[str, Tensor]:
    """Return by trait which faces have it, ``(n,)``."""
    errors = faces.errors()
    landmark = errors.argmax(1)
    places = torch.arange(len(errors))
    to_others = faces.distances(faces.predicted)[places, landmark]
    to_others[places, landmark] = float('inf')
    attributes = {
        trait: torch.tensor([annotation.attributes[trait] for annotation in annotations])
        for trait in annotations[0].attributes
    }
    found = {
        f'one landmark more than {TOLERANCE:.0f} % wrong': (errors > TOLERANCE).sum(1) == 1,
        f'the worst landmark within {TOLERANCE:.0f} % of another one': to_others.amin(1) <= TOLERANCE,
        'glasses': attributes['glasses'] == 1,
        'smiling': attributes['smile'] == 1,
        'women': attributes['gender'] == 2,
        'head turned to a side': attributes['pose'] != 3,
    }
    if faces.angles.any():
        found[f'rotated by more than {STRONG_ROTATION:.0f} degrees'] = faces.angles.abs() > STRONG_ROTATION
    return found


def _describe(faces: Faces, errors: Tensor, annotations: Sequence[FaceAnnotation], index: int) -> dict[str, Any]:
    landmark = int(errors[index].argmax())
    return {
        'name': annotations[index].name,
        'errors': {name: round(error, 2) for name, error in zip(LANDMARK_NAMES, errors[index].tolist(), strict=True)},
        'predicted': [round(value, 2) for value in faces.predicted[index, landmark].tolist()],
        'truth': [round(value, 2) for value in faces.truth[index, landmark].tolist()],
        'angle': round(float(faces.angles[index]), 1),
        **annotations[index].attributes,
    }


def worst_faces_page(results: Path, remark: str) -> str:
    """Return the section of the worst faces, empty without a run."""
    paths = sorted((results / 'worst').glob('*.json'))
    if not paths:
        return ''
    parts = ['## The worst faces', f'The {NUM_WORST} test faces with the largest error of a landmark.', remark]
    for path in paths:
        summary = json.loads(path.read_text())
        header = ['faces', f'of the {len(summary["faces"])} worst', f'of all {summary["test_faces"]:,}']
        rows = [[trait, str(row['worst']), f'{row["all"]:.1%}'] for trait, row in summary['traits'].items()]
        parts += [f'### `{path.stem}`', markdown_table(header, rows)]
        parts.append(f'![Landmarks of the worst faces, drawn without the faces](worst/{path.stem}.png)')
    return '\n\n'.join(filter(None, parts)) + '\n'
