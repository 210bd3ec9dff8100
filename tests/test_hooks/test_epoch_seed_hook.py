import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader
from torch.utils.data import DataLoader
from toy_components import ToyDataset


class NoisyDataset(ToyDataset):
    """Its samples are told apart by a random number of each generator."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        sample['data_samples']['draws'] = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        return sample


class SeenDraws(Hook):
    """Keeps the random numbers of each epoch's samples."""

    def __init__(self):
        self.epochs = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.epochs.setdefault(runner.epoch, []).extend(data_batch['data_samples']['draws'].flatten().tolist())


@pytest.mark.parametrize('seeded', [False, True])
def test_a_resumed_run_repeats_the_random_numbers_only_with_the_hook(toy_runner, tmp_path, seeded):
    settings = {} if seeded else dict(custom_hooks=[])
    toy_runner('whole', **settings).train()
    toy_runner('resumed', load_from=str(tmp_path / 'whole' / 'epoch_1.pth'), resume=True, **settings).train()

    whole, resumed = (
        CheckpointLoader.load_checkpoint(str(tmp_path / run / 'epoch_3.pth')) for run in ('whole', 'resumed')
    )
    same = [torch.equal(whole['state_dict'][name], tensor) for name, tensor in resumed['state_dict'].items()]
    assert all(same) == seeded


def test_epochs_differ_from_each_other(toy_runner):
    runner = toy_runner()
    seen: list[float] = []
    runner.register_hook(dict(type='ToyRandomRecorder', seen=seen), priority='LOWEST')
    runner.train()
    assert len(set(seen)) == 3


@pytest.mark.parametrize('workers', [dict(), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)])
def test_random_numbers_of_the_data_loader_depend_on_the_epoch_only(toy_runner, tmp_path, workers):
    def draws(run, **settings):
        runner = toy_runner(run, **settings)
        loader = {**runner.cfg.train_dataloader, **workers, 'dataset': NoisyDataset()}
        runner._train_dataloader = runner.build_dataloader(loader, seed=0)
        seen = SeenDraws()
        runner.register_hook(seen)
        runner.train()
        return seen.epochs

    whole = draws('whole')
    every = [draw for epoch in whole.values() for draw in epoch]
    assert len(set(every)) == len(every) == 3 * 3 * 23
    assert draws('resumed', load_from=str(tmp_path / 'whole' / 'epoch_1.pth'), resume=True) == {
        epoch: whole[epoch] for epoch in (1, 2)
    }


def test_what_else_a_worker_does_at_its_start_is_kept(toy_runner, tmp_path):
    runner = toy_runner(train_cfg={'max_epochs': 2})
    loader = DataLoader(ToyDataset(), 4, num_workers=2, worker_init_fn=lambda worker: (tmp_path / f'{worker}').touch())
    runner._train_dataloader = loader
    runner.train()
    assert (tmp_path / '0').exists()
    assert (tmp_path / '1').exists()
