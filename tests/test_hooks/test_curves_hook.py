import itertools
import json

import numpy as np
import pytest
import torch

from fg_plugin.hooks import CurvesHook


def rows(folder):
    return json.loads((folder / 'curves.json').read_text())


def train(toy_runner, run, **settings):
    runner = toy_runner(run, **settings)
    runner.register_hook(CurvesHook(interval=4))
    runner.train()
    return runner


def test_points_are_means_over_the_interval_and_end_at_the_epoch(toy_runner, tmp_path):
    runner = train(toy_runner, 'run', train_cfg={'max_epochs': 2})
    curves = rows(tmp_path / 'run')
    # 23 images in batches of 4 are 6 iterations an epoch: a point after the 4th, and one after the 6th.
    assert [row['epoch'] for row in curves['train']] == pytest.approx([4 / 6, 1, 1 + 4 / 6, 2])
    assert [row['epoch'] for row in curves['val']] == [1, 2]
    history = runner.message_hub.log_scalars['train/loss_cls'].data[0]
    expected = [history[0:4].mean(), history[4:6].mean(), history[6:10].mean(), history[10:12].mean()]
    assert [row['loss_cls'] for row in curves['train']] == pytest.approx(expected, rel=1e-5)
    assert curves['val'][-1]['toy/acc'] == runner.message_hub.log_scalars['val/toy/acc'].current()
    assert (tmp_path / 'run' / 'curves.png').read_bytes().startswith(b'\x89PNG')


def test_a_resumed_run_continues_its_curves(toy_runner, tmp_path):
    train(toy_runner, 'whole')
    # Epoch 3 of the first part is lost: the second part continues after epoch 2.
    train(toy_runner, 'parts')
    train(toy_runner, 'parts', resume=True, load_from=str(tmp_path / 'parts' / 'epoch_2.pth'))
    assert rows(tmp_path / 'parts') == rows(tmp_path / 'whole')


def test_an_iteration_based_run_has_the_points_before_its_checkpoint(toy_runner, tmp_path, monkeypatch):
    def settings(iterations):
        return {
            'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=iterations, val_interval=100),
            'param_scheduler.by_epoch': False,
            'train_dataloader.sampler.type': 'InfiniteSampler',
            'default_hooks.checkpoint.by_epoch': False,
            'default_hooks.checkpoint.interval': 5,
        }

    whole = train(toy_runner, 'whole', **settings(14))
    points = rows(tmp_path / 'whole')['train']
    history = whole.message_hub.log_scalars['train/loss_cls'].data[0]
    ends = [round(row['epoch'] * 6) for row in points]
    assert {5, 10, 14} <= {*ends}
    means = [history[start:end].mean() for start, end in itertools.pairwise([0, *ends])]
    assert [row['loss_cls'] for row in points] == pytest.approx(means, rel=1e-5)
    # As if it were stopped right after a checkpoint.
    for event in ('after_train', 'after_val_epoch'):
        monkeypatch.setattr(CurvesHook, event, lambda *_, **__: None)
    train(toy_runner, 'stopped', **settings(5))
    assert [round(row['epoch'] * 6) for row in rows(tmp_path / 'stopped')['train']] == [4, 5]


def test_a_new_run_in_an_old_folder_starts_empty(toy_runner, tmp_path):
    train(toy_runner, 'run')
    train(toy_runner, 'run', train_cfg={'max_epochs': 1})
    assert [row['epoch'] for row in rows(tmp_path / 'run')['val']] == [1]


@pytest.mark.parametrize('number', [np.float32(0.5), np.float64(0.5), np.int64(3), torch.tensor(0.5), 0.5])
def test_metrics_are_kept_as_plain_numbers(toy_runner, tmp_path, monkeypatch, number):
    runner = toy_runner('run', **{'train_cfg.max_epochs': 1, 'default_hooks.checkpoint.save_best': None})
    runner.register_hook(CurvesHook())
    monkeypatch.setattr(
        runner.val_loop.evaluator, 'evaluate', lambda size: {'toy/number': number, 'toy/per_class': [0.25, 0.75]}
    )
    runner.train()
    assert rows(tmp_path / 'run')['val'] == [{'epoch': 1.0, 'toy/number': float(number)}]
    assert (tmp_path / 'run' / 'curves.png').is_file()


def test_validation_alone_leaves_no_curves(toy_runner, tmp_path):
    runner = toy_runner('run', **{'default_hooks.checkpoint': None})
    runner.register_hook(CurvesHook())
    runner.val()
    assert not (tmp_path / 'run' / 'curves.json').exists()


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match='interval should be at least 1 iteration, but got 0'):
        CurvesHook(interval=0)
