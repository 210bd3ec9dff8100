import json

import pytest
import torch

from fg_plugin.hooks import FinalMetricsHook, NonFiniteLossError


def test_training_report(toy_runner, tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'toy_config.py', '--cfg-options', 'a=[1, 2]'])
    runner = toy_runner()
    runner.register_hook(FinalMetricsHook())
    runner.train()
    report = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert report['metrics']['toy/acc'] == runner.message_hub.log_scalars['val/toy/acc'].current()
    assert report['epochs'] == 3
    assert report['iterations'] == 18
    assert report['batch_size'] == 4
    assert report['processes'] == 1
    assert report['seed'] == 0
    assert report['config'] == 'toy_config.py'
    assert report['command'] == "python tools/train.py toy_config.py --cfg-options 'a=[1, 2]'"
    assert report['parameters'] == sum(parameter.numel() for parameter in runner.model.parameters())
    assert report['versions']['torch'] == torch.__version__.split('+')[0]
    assert {'python', 'numpy'} <= report['versions'].keys()
    assert f'{torch.get_num_threads()} threads' in report['hardware']
    assert 0 < report['elapsed_seconds'] < 60


def test_the_metrics_of_an_earlier_run_go_when_another_begins(toy_runner, tmp_path):
    def train(**settings):
        runner = toy_runner(**settings)
        runner.register_hook(FinalMetricsHook())
        runner.train()

    train(**{'train_cfg.max_epochs': 1})
    path = tmp_path / 'run' / 'metrics.json'
    finished = path.read_text()
    with pytest.raises(NonFiniteLossError):
        train(resume=True, **{'model.nan_loss_at': 8})
    assert path.read_text() == finished
    with pytest.raises(NonFiniteLossError):
        train(**{'model.nan_loss_at': 8})
    assert not path.exists()


def test_the_clock_of_a_resumed_run_continues(toy_runner, tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr('fg_plugin.hooks.final_metrics_hook.perf_counter', lambda: next(clock))
    runner = toy_runner('first', train_cfg={'max_epochs': 2})
    runner.register_hook(FinalMetricsHook())
    runner.train()
    runner = toy_runner('second', resume=True, load_from=str(tmp_path / 'first' / 'epoch_2.pth'))
    runner.register_hook(FinalMetricsHook())
    runner.train()
    # 2,000 seconds until the checkpoint of epoch 2, then one reading after epoch 3 and one at the end.
    assert json.loads((tmp_path / 'second' / 'metrics.json').read_text())['elapsed_seconds'] == 4000


def test_an_iteration_based_loop_reports_passes_over_the_data_and_all_of_its_time(toy_runner, tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr('fg_plugin.hooks.final_metrics_hook.perf_counter', lambda: next(clock))

    def report(run, **settings):
        loop = {'type': 'IterBasedTrainLoop', 'max_iters': 9, 'val_interval': 9, '_delete_': True}
        by_iteration = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 4}
        runner = toy_runner(run, train_cfg=loop, **by_iteration, param_scheduler=[], **settings)
        runner.register_hook(FinalMetricsHook())
        runner.train()
        return json.loads((tmp_path / run / 'metrics.json').read_text())

    whole = report('whole')
    # 9 iterations of 6 a pass over the data; a reading after each of them, and two at the end.
    assert (whole['epochs'], whole['iterations'], whole['elapsed_seconds']) == (1.5, 9, 11_000)
    checkpoint = str(tmp_path / 'whole' / 'iter_8.pth')
    resumed = report('resumed', resume=True, load_from=checkpoint)
    # 8,000 seconds until the checkpoint, then the last iteration and the end.
    assert (resumed['epochs'], resumed['iterations'], resumed['elapsed_seconds']) == (1.5, 9, 11_000)


def test_test_report(toy_runner, tmp_path):
    toy_runner('trained').train()
    checkpoint = str(tmp_path / 'trained' / 'epoch_3.pth')
    runner = toy_runner('run', load_from=checkpoint)
    runner.register_hook(FinalMetricsHook())
    metrics = runner.test()
    report = json.loads((tmp_path / 'run' / 'test_metrics.json').read_text())
    assert report['metrics'] == metrics
    assert report['checkpoint'] == checkpoint
    assert not (tmp_path / 'run' / 'metrics.json').exists()
