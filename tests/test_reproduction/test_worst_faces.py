import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fg_plugin.registration  # noqa: F401
from fg_plugin.datasets.mtfl_annotations import FaceAnnotation
from fg_plugin.inference.config_model import build_config_model
from fg_plugin.launch import read_config
from fg_plugin.reproduction.runs import RunName
from fg_plugin.reproduction.worst_faces import NUM_WORST, Faces, describe_worst_faces, traits, worst_faces_page

ROOT = Path(__file__).parents[2]
TRUTH = [[20.0, 20.0], [40.0, 20.0], [30.0, 30.0], [22.0, 40.0], [38.0, 40.0]]
RIGHT, MISPLACED, ALL_WRONG = range(3)


@pytest.fixture
def faces():
    """A right face, one whose left eye is taken for the right one, and one with all landmarks moved by 4 pixels."""
    truth = torch.tensor(TRUTH, dtype=torch.float64).repeat(3, 1, 1)
    predicted = truth.clone()
    predicted[MISPLACED, 0] = truth[MISPLACED, 1] + torch.tensor([0.0, 1.0])
    predicted[ALL_WRONG] += torch.tensor([4.0, 0.0])
    attributes = [
        {'gender': 1, 'smile': 1, 'glasses': 2, 'pose': 3},
        {'gender': 2, 'smile': 2, 'glasses': 1, 'pose': 5},
        {'gender': 2, 'smile': 2, 'glasses': 2, 'pose': 3},
    ]
    annotations = [FaceAnnotation(f'{index}.jpg', np.array(TRUTH), row, index) for index, row in enumerate(attributes)]
    angles = torch.tensor([0.0, -31.0, 29.0])
    return Faces(torch.zeros(3, 3, 64, 64, dtype=torch.uint8), predicted, truth, angles, annotations)


def test_errors_are_relative_to_the_interocular_distance(faces):
    errors = faces.errors()
    assert errors[RIGHT].tolist() == [0.0] * 5
    assert errors[MISPLACED].tolist() == pytest.approx([100 * 401**0.5 / 20, 0, 0, 0, 0])
    assert errors[ALL_WRONG].tolist() == pytest.approx([20.0] * 5)


def test_traits(faces):
    found = {trait: mask.tolist() for trait, mask in traits(faces).items()}
    assert found == {
        'one landmark more than 10 % wrong': [False, True, False],
        'the worst landmark within 10 % of another one': [False, True, False],
        'glasses': [False, True, False],
        'smiling': [True, False, False],
        'women': [False, True, True],
        'head turned to a side': [False, True, False],
        'rotated by more than 30 degrees': [False, True, False],
    }
    assert 'rotated by more than 30 degrees' not in traits(faces._replace(angles=torch.zeros(3)))


@pytest.fixture
def run(tmp_path):
    """A finished run of a tiny network, and the data it needs: (name, root)."""
    (tmp_path / 'configs').mkdir()
    config = tmp_path / 'configs' / 'unet_tiny.py'
    config.write_text(
        f"_base_ = '{ROOT / 'configs' / 'unet_mtfl.py'}'\nmodel = dict(backbone=dict(n=2), head=dict(in_channels=2))\n"
    )
    name = RunName('unet_tiny', 0, 5)
    work_dir = tmp_path / 'work_dirs' / name.folder
    work_dir.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(build_config_model(read_config(config, {})).state_dict(), work_dir / 'epoch_5.pth')
    (work_dir / 'last_checkpoint').write_text('epoch_5.pth')
    count = 14
    names = [f'lfw/{index}.jpg' for index in range(count)]
    landmarks = np.array(TRUTH, dtype=np.float32).repeat(count, 0).reshape(5, count, 2).transpose(1, 0, 2)
    np.savez(
        tmp_path / 'rot.npz',
        images=np.random.default_rng(0).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8),
        landmarks=landmarks,
        angles=np.linspace(-45, 45, count),
        names=np.array(names),
        train=np.arange(2),
        test=np.arange(2, count),
    )
    coordinates = ' '.join(str(value) for value in np.array(TRUTH).T.ravel())
    (tmp_path / 'training.txt').write_text('\n'.join(f'{name} {coordinates} 1 2 2 3' for name in names))
    return name, tmp_path


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
    assert '(results/worst/unet_tiny-5ep-seed0.png)' in page
    assert 'A remark.' in page


def test_without_a_run_there_is_no_section(tmp_path):
    assert worst_faces_page(tmp_path, 'A remark.') == ''


def test_without_a_checkpoint(run):
    name, root = run
    with pytest.raises(
        FileNotFoundError, match=r'The picture of the worst faces needs a checkpoint of unet_tiny-5ep/seed1'
    ):
        describe_worst_faces(name._replace(seed=1), root, root / 'work_dirs', root, root, root / 'results')
