import json

import numpy as np
import pytest
import torch
from PIL import Image

from fg_plugin.datasets.mtfl_annotations import FaceAnnotation
from fg_plugin.reproduction.worst_faces import NUM_WORST, describe_worst_faces, traits, worst_faces_page


@pytest.fixture
def annotations(faces):
    attributes = [
        {'gender': 1, 'smile': 1, 'glasses': 2, 'pose': 3},
        {'gender': 2, 'smile': 2, 'glasses': 1, 'pose': 5},
        {'gender': 2, 'smile': 2, 'glasses': 2, 'pose': 3},
    ]
    rows = zip(faces.names, attributes, strict=True)
    return [FaceAnnotation(name, faces.truth[index].numpy(), row, index) for index, (name, row) in enumerate(rows)]


def test_traits(faces, annotations):
    found = {trait: mask.tolist() for trait, mask in traits(faces, annotations).items()}
    assert found == {
        'one landmark more than 10 % wrong': [False, True, False],
        'the worst landmark within 10 % of another one': [False, True, False],
        'glasses': [False, True, False],
        'smiling': [True, False, False],
        'women': [False, True, True],
        'head turned to a side': [False, True, False],
        'rotated by more than 30 degrees': [False, True, False],
    }
    assert 'rotated by more than 30 degrees' not in traits(faces._replace(angles=torch.zeros(3)), annotations)


def test_a_run_is_described_without_its_faces(run):
    name, root = run
    results = root / 'results'
    with_faces = describe_worst_faces(name, root, root / 'work_dirs', root, root, results)
    summary = json.loads((results / 'worst' / 'unet_tiny-5ep-seed0.json').read_text())
    largest = [max(face['errors'].values()) for face in summary['faces']]
    assert len(largest) == NUM_WORST
    assert largest == sorted(largest, reverse=True)
    assert {face['name'] for face in summary['faces']} <= {f'lfw/{index}.jpg' for index in range(2, 14)}
    assert summary['traits']['head turned to a side'] == {'worst': 0, 'all': 0.0}
    assert summary.keys() >= {'config', 'seed', 'epochs', 'command', 'torch'}
    # Behind the landmarks, the picture to pass on is black.
    shown, kept = (
        np.asarray(Image.open(path).convert('RGB')) for path in (results / 'worst' / f'{with_faces.name}', with_faces)
    )
    assert shown.shape == kept.shape
    assert (shown == 0).all(2).mean() > 2 * (kept == 0).all(2).mean()
    page = worst_faces_page(results, 'A remark.')
    assert '| head turned to a side | 0 | 0.0% |' in page
    assert '(worst/unet_tiny-5ep-seed0.png)' in page
    assert 'A remark.' in page


def test_without_a_run_there_is_no_section(tmp_path):
    assert worst_faces_page(tmp_path, 'A remark.') == ''


def test_without_a_checkpoint(run):
    name, root = run
    with pytest.raises(
        FileNotFoundError, match=r'The picture of the worst faces needs a checkpoint of unet_tiny-5ep/seed1'
    ):
        describe_worst_faces(name._replace(seed=1), root, root / 'work_dirs', root, root, root / 'results')
