"""tools/export.py, infer.py and analyze_filters.py as a user runs them, in this process to save its start."""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from trained import DIGITS, save_config_model, save_images

from fg_plugin.inference.checkpoint_files import read_metadata

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs tools/<tool>.py with arguments; returns its exit status and what it prints."""

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(TOOLS / f'{tool}.py'), run_name='__main__')
        except SystemExit as done:
            status = done.code or 0
        printed = capsys.readouterr()
        assert 'Traceback' not in printed.err
        return status, printed.out, printed.err

    return run


@pytest.fixture
def checkpoint(tmp_path):
    return save_config_model(tmp_path / 'digits.pth')


def test_export_beside_the_checkpoint_once(call, checkpoint):
    arguments = ('export', DIGITS, checkpoint, '--format', 'safetensors')
    status, out, _ = call(*arguments)
    written = checkpoint.with_name('digits.safetensors')
    assert status == 0
    assert out.splitlines() == [str(written), '64 tensors, the same after reloading']
    before = written.stat().st_mtime_ns
    status, _, err = call(*arguments)
    assert status == 1
    assert f'error: out should be a new file, but {written} exists: give another --out, or --overwrite' in err
    assert written.stat().st_mtime_ns == before
    assert call(*arguments, '--overwrite')[0] == 0


def test_frozen_leaves_unreadable_images_out(call, checkpoint, tmp_path):
    save_images(tmp_path / 'images', 3)
    (tmp_path / 'images' / 'notes.txt').write_text('no image')
    out = tmp_path / 'new' / 'plain.pth'
    arguments = ('export', DIGITS, checkpoint, '--format', 'frozen', '--out', out)
    status, printed, _ = call(*arguments, '--images', tmp_path / 'images')
    assert status == 0
    assert f'left out {tmp_path}/images/notes.txt: the file holds no image of a known format' in printed
    assert 'on these 3 images' in printed
    assert torch.load(out, weights_only=True)['state_dict'].keys() >= {'backbone.conv1.weight', 'head.fc.weight'}
    status, _, err = call(*arguments)
    assert status == 2
    assert '--images should be given with --format frozen' in err


def test_infer_reports_what_is_no_image_and_goes_on(call, checkpoint, tmp_path):
    folder = tmp_path / 'images'
    save_images(folder, 3)
    arguments = ('infer', DIGITS, checkpoint, folder, '--out-dir', tmp_path / 'out', '--batch-size', '2')
    status, out, err = call(*arguments)
    assert (status, err) == (0, '')
    assert f'3 of 3 images predicted: {tmp_path}/out/predictions.json' in out
    (folder / 'notes.txt').write_text('no image')
    status, out, err = call(*arguments)
    assert status == 1
    assert '3 of 4 images predicted' in out
    assert err == f'no prediction for {folder}/notes.txt: the file holds no image of a known format\n'
    report = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert len(report['predicted']) == 3
    assert [failure['path'] for failure in report['failed']] == [str(folder / 'notes.txt')]


def test_analyze_filters(call, checkpoint, tmp_path):
    arguments = ('analyze_filters', DIGITS, checkpoint, '--out-dir', tmp_path / 'out', '--only', 'variance', 'swap')
    status, out, _ = call(*arguments, '--num-images', '20')
    assert status == 0
    assert 'swap: accuracy_swapped' in out
    summary = json.loads((tmp_path / 'out' / 'analysis.json').read_text())
    assert summary['images'] == '20 of 360 images of the test set'
    assert summary.keys() >= {'swap', 'variance'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['fg_tset_resnet', 'weights.pth', '--num-images', '9'], "'fg_tset_resnet' is no architecture of timm"),
        (['fg_test_resnet', 'missing.pth'], 'checkpoint should be an existing file, but got missing.pth'),
        (['fg_test_resnet', 'weights.pth', '--model-kwargs', 'fg_rnak=8'], "'fg_rnak' is no option of generated"),
        ([DIGITS, 'weights.pth', '--layers', 'conv7'], "'conv7' matches none of: conv1, conv2"),
        ([DIGITS, 'weights.pth', '--num-images', '1'], 'num_images should be at least 2, but got 1'),
        ([DIGITS, 'weights.pth', '--input-size', '1', '2', '3'], 'one or two positive numbers, but got [1, 2, 3]'),
        (
            [DIGITS, 'weights.pth', '--device', 'foo'],
            "--device should be such as cpu or cuda, but 'foo' cannot be used",
        ),
        ([DIGITS, 'weights.pth', '--device', 'meta'], "but 'meta' cannot be used here (it holds no numbers)"),
        ([DIGITS, 'weights.pth', '--device', 'cuda:99'], "but 'cuda:99' cannot be used here ("),
        ([DIGITS, 'weights.pth', '--classes', 'none.txt'], "No such file or directory: 'none.txt'"),
    ],
)
def test_mistakes_are_one_message(call, tmp_path, monkeypatch, arguments, message):
    save_config_model(tmp_path / 'weights.pth')
    monkeypatch.chdir(tmp_path)
    status, _, err = call('analyze_filters', *arguments, '--out-dir', 'out')
    assert status == 1
    assert message in err
    assert not (tmp_path / 'out').exists()


def test_a_config_that_imports_what_is_missing(call, checkpoint, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{DIGITS}'\ncustom_imports = dict(imports=['no_such_module'])")
    status, _, err = call('export', config, checkpoint, '--format', 'onnx')
    assert status == 1
    assert "error: Failed to import custom modules from {'imports': ['no_such_module']" in err


def test_names_that_are_no_text(call, checkpoint, tmp_path):
    save_images(tmp_path / 'images', 2)
    (tmp_path / 'images' / os.fsdecode(b'caf\xe9.txt')).write_text('no image')
    out = tmp_path / os.fsdecode(b'caf\xe9.pth')
    arguments = ('--format', 'frozen', '--images', tmp_path / 'images', '--out', out)
    status, printed, _ = call('export', DIGITS, checkpoint, *arguments)
    assert status == 0
    assert 'images/caf\\udce9.txt: the file holds no image of a known format' in printed
    assert out.is_file()


def test_a_file_of_classes_with_a_byte_order_mark(call, checkpoint, tmp_path):
    save_images(tmp_path / 'images', 1)
    (tmp_path / 'classes.txt').write_text('\n'.join('abcdefghij'), encoding='utf-8-sig')
    options = ('--classes', tmp_path / 'classes.txt', '--out', tmp_path / 'out.safetensors')
    assert call('export', DIGITS, checkpoint, '--format', 'safetensors', *options)[0] == 0
    assert read_metadata(tmp_path / 'out.safetensors')['classes'] == list('abcdefghij')


def test_the_name_of_an_export_is_checked_first(call, tmp_path):
    arguments = ('--format', 'safetensors', '--out', tmp_path / 'deploy.pth')
    status, _, err = call('export', DIGITS, tmp_path / 'missing.pth', *arguments)
    assert status == 1
    assert 'out of format safetensors should end in .safetensors, but got' in err


@pytest.mark.parametrize(('tool', 'module'), [('analyze_filters', 'sklearn'), ('infer', 'rich')])
def test_a_missing_package_names_its_extra(call, checkpoint, tmp_path, monkeypatch, tool, module):
    monkeypatch.setattr('fg_plugin.optional_packages.find_spec', lambda name: None if name == module else True)
    images = [checkpoint] if tool == 'infer' else []
    status, _, err = call(tool, DIGITS, checkpoint, *images, '--out-dir', tmp_path / 'out')
    assert status == 1
    assert f"needs {module}, which is not installed: pip install 'fg-plugin[analysis]'" in err


def test_options_are_kept_in_what_is_exported(call, checkpoint, tmp_path):
    options = ['--cfg-options', 'model.data_preprocessor.mean=[0.5]', 'model.data_preprocessor.std=[0.25]']
    path = tmp_path / 'out.safetensors'
    assert call('export', DIGITS, checkpoint, '--format', 'safetensors', '--out', path, *options)[0] == 0
    expected = {'model.data_preprocessor.mean': [0.5], 'model.data_preprocessor.std': [0.25]}
    assert read_metadata(path)['options'] == expected
    status, _, err = call('export', DIGITS, checkpoint, '--format', 'onnx', '--cfg-options', 'images')
    assert status == 2
    assert "should be KEY=VALUE, but got 'images'; files and folders come before the options" in err
