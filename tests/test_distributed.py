"""Two processes on the CPU: their training and their metrics are those of one."""

import json

import pytest
import torch
from mmengine.runner import CheckpointLoader
from toy_distributed_checks import evaluate, normalise
from toy_runs import RecordWriting, in_processes, printed, train, trained_state

# With find_unused_parameters=False, a parameter without a gradient ends the run at its second step.
CASES = {
    'reconstruction': [],
    'no_reconstruction': ['model.backbone.reconstruction_weight=0'],
    'frozen_encoder': ['model.backbone.reconstruction_weight=0', 'model.frozen_encoder=True'],
    'frozen_encoder_with_reconstruction': ['model.frozen_encoder=True'],
    'first_conv_static': ['model.backbone.reconstruction_weight=0', 'model.backbone.convert.exclude=[layers.0]'],
    'one_conv_generated': ['model.backbone.reconstruction_weight=0', 'model.backbone.convert.include=[layers.3]'],
}


@pytest.mark.parametrize('case', CASES)
def test_two_processes_train_the_parameters_of_one(case, tmp_path):
    options = ['--cfg-options', 'model.backbone.backbone.dropout=0', *CASES[case]]
    assert train(tmp_path / 'one', *options, 'train_dataloader.batch_size=8') == [0]
    two = tmp_path / 'two'
    arguments = [*options, 'train_dataloader.batch_size=4', 'find_unused_parameters=False']
    report = tmp_path / 'written'
    assert train(two, *arguments, processes=2, sabotage=RecordWriting(two, report)) == [0, 0], printed(two)
    expected, actual = (trained_state(tmp_path / run) for run in ('one', 'two'))
    for part in ('state_dict', 'ema_state_dict'):
        for name, tensor in expected[part].items():
            torch.testing.assert_close(actual[part][name], tensor, rtol=0, atol=1e-9, msg=f'{case}: {name}')
    # Only the first process writes.
    assert not report.exists(), report.read_text()
    folders = [{path.name for path in (tmp_path / run).iterdir() if path.is_file()} for run in ('one', 'two')]
    assert folders[0] == folders[1]
    # Validation of 13 images by 2 processes, also with swapped filters.
    metrics = [json.loads((tmp_path / run / 'metrics.json').read_text())['metrics'] for run in ('one', 'two')]
    for name in ('accuracy/top1', 'swap/accuracy_top1'):
        assert metrics[0][name] == metrics[1][name]


def test_torchrun_trains_and_gathers_metrics_like_one_process(run_tool, toy_config_path, toy_runner, tmp_path):
    work_dir = tmp_path / 'run'
    arguments = ['--work-dir', work_dir, '--launcher', 'pytorch', '--cfg-options', 'train_cfg.max_epochs=2']
    trained = run_tool('train', toy_config_path, *arguments, processes=2, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr

    # Each process takes half of the 23 images, in batches of 4.
    assert CheckpointLoader.load_checkpoint(str(work_dir / 'epoch_2.pth'))['meta']['iter'] == 2 * 3
    # Only the first process writes: one log, each save announced once.
    (log,) = work_dir.rglob('*.log')
    assert log.read_text().count('Saving checkpoint at') == 2

    # One of the two processes sees a padded image, which does not count twice.
    (scalars,) = work_dir.rglob('vis_data/scalars.json')
    together = [json.loads(line) for line in scalars.read_text().splitlines() if 'toy/acc' in line][-1]
    alone = toy_runner('alone', load_from=str(work_dir / 'epoch_2.pth')).test()
    assert alone['toy/images'] == 23
    # scalars.json holds single values only.
    assert alone.pop('toy/index_range') == [0, 22]
    assert {name: together[name] for name in alone} == alone


@pytest.mark.parametrize('length', [7, 8])
def test_metrics_of_two_processes_are_those_of_one(length, tmp_path):
    expected = evaluate(None, length, tmp_path)
    assert in_processes(2, evaluate, length, tmp_path) == [0, 0]
    assert len(expected['toy/scores']) == length
    for rank in range(2):
        actual = json.loads((tmp_path / f'{rank}.json').read_text())
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(torch.tensor(actual[name]), torch.tensor(value), msg=name)


def test_synchronised_batch_norm_is_refused_on_cpus(tmp_path):
    options = ['--cfg-options', 'model.backbone.backbone.norm=sync']
    assert train(tmp_path / 'two', *options, processes=2) != [0, 0]
    message = printed(tmp_path / 'two')
    assert (
        'SyncBatchNorm layers only work with GPU modules: PyTorch synchronises batch normalisation over GPUs' in message
    )
    assert "norm='group' in autoencoder and neck" in message
    assert 'Traceback' not in message


def test_pytorch_itself_refuses_synchronised_batch_norm_on_cpus(tmp_path):
    assert in_processes(2, normalise, tmp_path) == [0, 0]
    assert 'SyncBatchNorm expected input tensor to be on GPU' in (tmp_path / '0.txt').read_text()


def test_sync_bn_of_a_config_is_refused_on_cpus(tmp_path):
    assert train(tmp_path / 'two', '--cfg-options', 'sync_bn=torch', processes=2) != [0, 0]
    message = printed(tmp_path / 'two')
    assert "sync_bn should be left out on a machine without CUDA devices, but got 'torch'" in message
    assert 'Traceback' not in message
