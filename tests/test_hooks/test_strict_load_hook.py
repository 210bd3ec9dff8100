import re

import pytest
import torch
from mmengine.runner import CheckpointLoader

from fg_plugin.hooks import CheckpointMismatchError, StrictLoadHook


@pytest.fixture
def checkpoint(toy_runner, tmp_path):
    toy_runner('first', **{'train_cfg.max_epochs': 1}).train()
    return tmp_path / 'first' / 'epoch_1.pth'


def strict(runner):
    runner.register_hook(StrictLoadHook())
    return runner


@pytest.mark.parametrize('resume', [False, True])
def test_the_same_architecture_is_loaded(toy_runner, checkpoint, resume):
    strict(toy_runner(load_from=str(checkpoint), resume=resume)).train()


@pytest.mark.parametrize('start', ['train', 'test'])
def test_another_architecture_is_refused(toy_runner, checkpoint, start):
    runner = strict(toy_runner(load_from=str(checkpoint), **{'model.width': 4}))
    message = re.escape('of another shape: layers.0.bias (model (4,), checkpoint (8,)), layers.0.weight')
    with pytest.raises(CheckpointMismatchError, match=message + '.* and 2 more.*Use the config it was trained with'):
        getattr(runner, start)()


def test_mmengine_alone_would_only_warn(toy_runner, checkpoint):
    toy_runner(load_from=str(checkpoint), **{'model.width': 4, 'train_cfg.max_epochs': 1}).train()


def test_missing_and_unknown_keys_are_named(toy_runner, checkpoint):
    weights = CheckpointLoader.load_checkpoint(str(checkpoint))['state_dict']
    weights['layers.9.weight'] = weights.pop('layers.0.weight')
    del weights['layers.1.num_batches_tracked']
    torch.save(dict(state_dict=weights), checkpoint)
    with pytest.raises(CheckpointMismatchError) as caught:
        strict(toy_runner(load_from=str(checkpoint))).train()
    assert 'missing in the checkpoint: layers.0.weight' in str(caught.value)
    assert 'unknown to the model: layers.9.weight' in str(caught.value)


def test_a_plain_state_dict_saved_from_several_gpus_is_loaded(toy_runner, checkpoint):
    weights = CheckpointLoader.load_checkpoint(str(checkpoint))['state_dict']
    torch.save({f'module.{name}': tensor for name, tensor in weights.items()}, checkpoint)
    strict(toy_runner(load_from=str(checkpoint))).train()
