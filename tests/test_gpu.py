"""Whole trainings on a GPU, for machines that have one."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')

CONFIG = 'configs/demo_digits.py'
SMALL = ['train_cfg.max_epochs=1', 'train_dataloader.dataset.num_images=64', 'val_dataloader.dataset.num_images=20']


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['--amp'],
        ['--amp', 'bfloat16'],
        ['--launcher', 'pytorch', 'torchrun'],
        ['--launcher', 'pytorch', '--amp', 'bfloat16', 'torchrun'],
        ['--launcher', 'pytorch', 'sync_bn=torch', 'torchrun'],
    ],
    ids=' '.join,
)
def test_a_training_ends_with_finite_weights(run_tool, tmp_path, arguments):
    options = [word for word in arguments if word != 'torchrun' and '=' not in word]
    settings = [word for word in arguments if '=' in word]
    # One process of torchrun uses nccl, as several do.
    run = run_tool(
        'train',
        CONFIG,
        '--work-dir',
        tmp_path,
        *options,
        '--cfg-options',
        *SMALL,
        *settings,
        torchrun='torchrun' in arguments,
    )
    assert run.returncode == 0, run.stderr
    weights = CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'), map_location='cpu')['state_dict']
    assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())


def test_a_compiled_training_in_channels_last(run_tool, tmp_path):
    config = tmp_path / 'config.py'
    hooks = "[dict(type='ChannelsLastHook'), dict(type='CompileBackboneHook')]"
    base = str(Path(__file__).parents[1] / CONFIG)
    config.write_text(f'_base_ = {base!r}\ncustom_hooks = {hooks}\n')
    run = run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', *SMALL)
    assert run.returncode == 0, run.stderr
