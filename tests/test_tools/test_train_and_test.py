"""tools/train.py and tools/test.py as a user runs them; all but the first run in this process, to save its start."""

import json
import runpy
import sys
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def call_tool(monkeypatch, capsys):
    """Runs tools/<tool>.py with arguments in this process; returns what it prints."""

    def call(tool, *arguments):
        options = [str(argument) for argument in arguments]
        if '--cfg-options' not in options:
            options.append('--cfg-options')
        # MMEngine shares logs between runs of one name and second.
        monkeypatch.setattr(sys, 'argv', [tool, *options, f'experiment_name={uuid.uuid4().hex}'])
        runpy.run_path(str(TOOLS / f'{tool}.py'), run_name='__main__')
        printed = capsys.readouterr()
        return printed.out + printed.err

    return call


@pytest.fixture
def call_failing_tool(call_tool, capsys):
    """Runs a tool that should exit with status 1; returns its message."""

    def call(*arguments):
        with pytest.raises(SystemExit, match='1'):
            call_tool(*arguments)
        return capsys.readouterr().err.split('error: ')[-1]

    return call


def test_train_resume_test(run_tool, call_tool, toy_config_path, tmp_path):
    first = run_tool(
        *('train', toy_config_path, '--work-dir', tmp_path / 'run'),
        *('--cfg-options', 'train_cfg.max_epochs=2', 'param_scheduler.end=3'),
    )
    assert first.returncode == 0, first.stderr
    log = first.stdout + first.stderr
    assert all(text in log for text in ('eta: ', 'data_img_per_s: ', 'train_img_per_s: '))
    files = {path.name for path in (tmp_path / 'run').iterdir()}
    assert {'epoch_1.pth', 'epoch_2.pth', 'best_toy_acc_epoch_1.pth', 'last_checkpoint', 'toy_config.py'} <= files

    call_tool('train', toy_config_path, '--work-dir', tmp_path / 'run', '--resume')
    call_tool('train', toy_config_path, '--work-dir', tmp_path / 'other', '--resume', tmp_path / 'run' / 'epoch_1.pth')
    checkpoints = [CheckpointLoader.load_checkpoint(str(tmp_path / run / 'epoch_3.pth')) for run in ('run', 'other')]
    assert [checkpoint['meta']['iter'] for checkpoint in checkpoints] == [18, 18]
    weights, again = (checkpoint['state_dict'] for checkpoint in checkpoints)
    assert all(torch.equal(weights[name], again[name]) for name in weights)

    out = tmp_path / 'new' / 'metrics.json'
    call_tool('test', toy_config_path, tmp_path / 'run' / 'epoch_3.pth', '--work-dir', tmp_path / 'run', '--out', out)
    metrics = json.loads(out.read_text())
    assert metrics['toy/images'] == 23
    assert metrics['toy/index_sum'] == sum(range(23))
    assert metrics['toy/index_range'] == [0, 22]
    assert 0 < metrics['toy/acc'] <= 1


def test_resume_without_a_checkpoint_starts_anew(call_tool, toy_config_path, tmp_path):
    call_tool('train', toy_config_path, '--work-dir', tmp_path, '--resume')
    assert (tmp_path / 'epoch_3.pth').is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason='float16 on a GPU')
def test_amp_trains_on_a_cpu(call_tool, toy_config_path, tmp_path):
    call_tool('train', toy_config_path, '--work-dir', tmp_path, '--amp')
    assert "type='CPUAmpOptimWrapper'" in (tmp_path / 'toy_config.py').read_text()


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_another_architecture_is_one_message(call_tool, call_failing_tool, toy_config_path, tmp_path, tool):
    call_tool('train', toy_config_path, '--work-dir', tmp_path / 'first')
    checkpoint = tmp_path / 'first' / 'epoch_3.pth'
    positional = [checkpoint] if tool == 'test' else []
    options = ['model.width=4', *([f'load_from={checkpoint}'] if tool == 'train' else [])]
    arguments = [toy_config_path, *positional, '--work-dir', tmp_path / 'second', '--cfg-options', *options]
    message = call_failing_tool(tool, *arguments)
    assert 'of another architecture (of another shape: layers.0.bias (model (4,), checkpoint (8,))' in message
    assert 'Traceback' not in message
    if tool == 'train':
        call_tool(tool, *arguments[:1], '--partial-load', *arguments[1:])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['model.type=ToyModle'], 'ToyModle is not in the'),
        (['model.depth=3'], "unexpected keyword argument 'depth'"),
        (['model.nan_loss_at=2'], 'the loss should be finite, but at step 2'),
        (['load_from=missing.pth'], 'missing.pth can not be found'),
    ],
)
def test_mistakes_are_one_message(call_failing_tool, toy_config_path, tmp_path, options, message):
    printed = call_failing_tool('train', toy_config_path, '--work-dir', tmp_path, '--cfg-options', *options)
    assert message in printed
    assert 'Traceback' not in printed


def test_a_missing_checkpoint_is_named(call_failing_tool, toy_config_path, tmp_path):
    message = call_failing_tool('test', toy_config_path, tmp_path / 'epoch_9.pth', '--work-dir', tmp_path)
    assert message.startswith(f'checkpoint should be an existing file, but got {tmp_path / "epoch_9.pth"}')


def test_a_config_without_a_test_set_or_with_a_mistake_is_one_message(call_failing_tool, toy_config_path, tmp_path):
    weights = ['--work-dir', tmp_path, '--cfg-options', 'test_dataloader=None', 'test_cfg=None', 'test_evaluator=None']
    message = call_failing_tool('test', toy_config_path, tmp_path / 'epoch_9.pth', *weights)
    assert message.startswith(f'config should have a test_dataloader to test on, but {toy_config_path} has none')
    (tmp_path / 'mistake.py').write_text('model = dict(\n')
    message = call_failing_tool('train', tmp_path / 'mistake.py', '--work-dir', tmp_path)
    assert 'never closed' in message
    assert 'Traceback' not in message


def test_metrics_cannot_replace_a_folder(call_failing_tool, toy_config_path, tmp_path):
    (tmp_path / 'epoch_9.pth').write_bytes(b'not read, as nothing is tested')
    arguments = ('test', toy_config_path, tmp_path / 'epoch_9.pth', '--work-dir', tmp_path, '--out')
    assert call_failing_tool(*arguments, tmp_path).startswith(f'--out should be a file, but {tmp_path} is a folder')
    assert 'File exists' in call_failing_tool(*arguments, tmp_path / 'epoch_9.pth' / 'metrics.json')


def test_weights_of_safetensors_are_tested_and_a_hostile_file_is_refused(
    call_tool, call_failing_tool, toy_config_path, toy_runner, tmp_path
):
    toy_runner('run', **{'train_cfg.max_epochs': 1}).train()
    checkpoint = CheckpointLoader.load_checkpoint(str(tmp_path / 'run' / 'epoch_1.pth'))
    save_file(checkpoint['state_dict'], tmp_path / 'weights.safetensors')
    for name in ('run/epoch_1.pth', 'weights.safetensors'):
        call_tool('test', toy_config_path, tmp_path / name, '--work-dir', tmp_path, '--out', tmp_path / f'{name}.json')
    expected, actual = (
        json.loads((tmp_path / f'{name}.json').read_text()) for name in ('run/epoch_1.pth', 'weights.safetensors')
    )
    metrics = [name for name in expected if name.startswith('toy/')]
    assert [actual[name] for name in metrics] == [expected[name] for name in metrics]

    torch.save({**checkpoint, 'extra': Payload(tmp_path / 'proof')}, tmp_path / 'hostile.pth')
    message = call_failing_tool('test', toy_config_path, tmp_path / 'hostile.pth', '--work-dir', tmp_path)
    assert 'save its weights anew with safetensors, or allow its classes by' in message
    assert not (tmp_path / 'proof').exists()


class Payload:
    """Creates a file where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


def test_missing_data_is_one_message_before_training(call_failing_tool, tmp_path):
    config = TOOLS.parent / 'configs' / 'unet_mtfl.py'
    options = [f'train_dataloader.dataset.data_root={tmp_path}', 'model.backbone.n=4', 'model.head.in_channels=4']
    message = call_failing_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    assert message.startswith(f'MTFL is not prepared: {tmp_path}/rot.npz not found')
    assert 'run python tools/prepare_mtfl.py' in message
    assert 'Without it, configs/demo_unet_faces.py trains on data that needs no download' in message
    assert 'Traceback' not in message
    assert not list((tmp_path / 'run').glob('*.pth'))
