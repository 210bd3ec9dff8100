from pathlib import Path

import numpy as np
import pytest
import torch
from perturbed import perturb_heads_

import fg_plugin.registration  # noqa: F401
from fg_plugin.inference.config_model import build_config_model
from fg_plugin.launch import read_config
from fg_plugin.reproduction.faces import Faces
from fg_plugin.reproduction.runs import RunName

ROOT = Path(__file__).parents[2]
# Two eyes 20 pixels apart, a nose and the corners of a mouth.
TRUTH = [[20.0, 20.0], [40.0, 20.0], [30.0, 30.0], [22.0, 40.0], [38.0, 40.0]]


@pytest.fixture
def faces():
    """A right face, one whose left eye is taken for the right one, and one with all landmarks moved by 4 pixels."""
    truth = torch.tensor(TRUTH, dtype=torch.float64).repeat(3, 1, 1)
    predicted = truth.clone()
    predicted[1, 0] = truth[1, 1] + torch.tensor([0.0, 1.0])
    predicted[2] += torch.tensor([4.0, 0.0])
    angles = torch.tensor([0.0, -31.0, 29.0])
    names = [f'{index}.jpg' for index in range(3)]
    return Faces(torch.zeros(3, 3, 64, 64, dtype=torch.uint8), predicted, truth, angles, names)


@pytest.fixture
def make_run(tmp_path, write_faces):
    """Makes a finished run of a tiny network on D-Rot of 14 faces, 12 of them for testing: (name, root)."""

    def make(base, changes):
        (tmp_path / 'configs').mkdir()
        config = tmp_path / 'configs' / 'unet_tiny.py'
        config.write_text(f"_base_ = '{ROOT / 'configs' / base}'\nmodel = {changes!r}\n")
        name = RunName('unet_tiny', 0, 5)
        work_dir = tmp_path / 'work_dirs' / name.folder
        work_dir.mkdir(parents=True)
        torch.manual_seed(0)
        model = perturb_heads_(build_config_model(read_config(config, {})))
        torch.save(model.state_dict(), work_dir / 'epoch_5.pth')
        (work_dir / 'last_checkpoint').write_text('epoch_5.pth')
        (work_dir / 'metrics.json').write_text('{"finished": "today"}')
        write_faces(tmp_path, np.linspace(-44, 44, 14))
        names = [f'lfw/{index}.jpg' for index in range(14)]
        coordinates = ' '.join(str(value) for value in np.array(TRUTH).T.ravel())
        (tmp_path / 'training.txt').write_text('\n'.join(f'{name} {coordinates} 1 2 2 3' for name in names))
        return name, tmp_path

    return make


@pytest.fixture
def run(make_run):
    """A run of a tiny UNet."""
    return make_run('unet_mtfl.py', {'backbone': {'n': 2}, 'head': {'in_channels': 2}})


@pytest.fixture
def generated_run(make_run):
    """A run of a tiny UNet with generated filters."""
    return make_run('fg_unet_mtfl_light.py', {'backbone': {'backbone': {'n': 2}}, 'head': {'in_channels': 2}})


@pytest.fixture
def write_faces():
    """Writes D-Rot of faces of noise, as if each had been rotated by its angle; the first two are for training."""

    def write(folder, angles, album='lfw', seed=0):
        folder.mkdir(exist_ok=True)
        count = len(angles)
        np.savez(
            folder / 'rot.npz',
            images=np.random.default_rng(seed).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8),
            landmarks=np.array(TRUTH, dtype=np.float32)[None].repeat(count, 0),
            angles=angles,
            names=np.array([f'{album}/{index}.jpg' for index in range(count)]),
            train=np.arange(2),
            test=np.arange(2, count),
        )

    return write
