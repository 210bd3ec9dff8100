import time
from pathlib import Path

import pytest

from fg_plugin.hooks import ThroughputHook


def test_both_rates_are_logged(toy_runner, monkeypatch):
    runner = toy_runner()
    step = runner.model.train_step

    def slow_step(*args, **kwargs):
        time.sleep(0.02)
        return step(*args, **kwargs)

    monkeypatch.setattr(runner.model, 'train_step', slow_step)
    runner.train()
    scalars = runner.message_hub.log_scalars
    # 4 images in a little more than 20 ms; the loader only indexes a tensor.
    assert 20 < scalars['train/train_img_per_s'].current() < 200
    assert scalars['train/data_img_per_s'].current() > scalars['train/train_img_per_s'].current()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'data_img_per_s: ' in log
    assert 'eta: ' in log


@pytest.mark.parametrize(
    'loop',
    [
        {'train_cfg.max_epochs': 2},
        {
            'train_cfg': {'_delete_': True, 'type': 'IterBasedTrainLoop', 'max_iters': 6, 'val_interval': 3},
            'param_scheduler': None,
            'default_hooks.checkpoint.by_epoch': False,
            'log_processor.by_epoch': False,
        },
    ],
    ids=['epochs', 'iterations'],
)
def test_validation_is_no_loading(toy_runner, monkeypatch, loop):
    runner = toy_runner(**loop)
    evaluate = runner.val_loop.evaluator.evaluate

    def slow_evaluation(size):
        time.sleep(1)
        return evaluate(size)

    monkeypatch.setattr(runner.val_loop.evaluator, 'evaluate', slow_evaluation)
    runner.train()
    # At most 11 iterations of 4 images.
    assert runner.message_hub.log_scalars['train/data_img_per_s'].current() > 44


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match='window should be at least 1 iteration, but got 0'):
        ThroughputHook(window=0)
