import argparse
import weakref
from pathlib import Path

import pytest
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from fg_plugin.hooks import NonFiniteLossError
from fg_plugin.launch import add_common_arguments, build_runner, load_config, reported_errors

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('*.py'))


def arguments(config, *more):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_common_arguments(parser)
    return parser.parse_args([str(config), *more])


def test_the_work_dir_is_named_after_the_config(toy_config_path):
    assert load_config(arguments(toy_config_path)).work_dir == str(Path('work_dirs', 'toy_config'))
    assert load_config(arguments(toy_config_path, '--work-dir', 'here')).work_dir == 'here'


def test_options_override_the_config(toy_config_path):
    cfg = load_config(arguments(toy_config_path, '--cfg-options', 'train_cfg.max_epochs=7', 'model.width=3'))
    assert cfg.train_cfg.max_epochs == 7
    assert cfg.model.width == 3


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('foo', "argument --cfg-options: should be KEY=VALUE, but got 'foo'"),
        ('=3', "argument --cfg-options: should be KEY=VALUE, but got '=3'"),
        ('a=[(1,2]', "argument --cfg-options: brackets should be balanced, but got 'a=[(1,2]'"),
        ('a=(1),(2)', "argument --cfg-options: brackets should be balanced, but got 'a=(1),(2)'"),
    ],
)
def test_options_that_cannot_be_read_are_refused(toy_config_path, capsys, text, message):
    with pytest.raises(SystemExit, match='2'):
        arguments(toy_config_path, '--cfg-options', 'model.width=3', text)
    assert message in capsys.readouterr().err


def test_mmengines_compile_setting_is_refused(toy_config_path):
    with pytest.raises(ValueError, match=r'compile should be left out, but got True.*CompileBackboneHook'):
        load_config(arguments(toy_config_path, '--cfg-options', 'compile=True'))


def test_an_import_in_a_config_is_no_lazy_config(toy_config_path, tmp_path):
    path = tmp_path / 'with_import.py'
    path.write_text('import os\nfolder = os.path.join("a", "b")\n')
    assert load_config(arguments(path)).folder == str(Path('a', 'b'))


def test_the_style_of_imports_is_refused_by_name(tmp_path):
    path = tmp_path / 'new_style.py'
    path.write_text('from mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n')
    with pytest.raises(ValueError, match=r'_base_ = \[\.\.\.\], but .*new_style.py imports them \(with read_base'):
        load_config(arguments(path))


def test_a_misspelt_config_names_the_closest():
    with pytest.raises(FileNotFoundError, match=r'got configs/demo_digit\.py; the closest are configs/demo_digits\.py'):
        load_config(arguments(Path('configs', 'demo_digit.py')))


def test_a_config_in_an_unknown_folder_names_those_of_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(FileNotFoundError, match=r'the closest are .*configs/fg_unet_mtfl\.py'):
        load_config(arguments(Path('nowhere', 'fg_unet_mtlf.py')))


def test_no_close_config_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'got .*missing\.py$'):
        load_config(arguments(tmp_path / 'missing.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_runs_of_the_projects_configs_are_safe(path):
    cfg = Config.fromfile(path, lazy_import=False)
    hooks = {hook['type'] for hook in cfg.custom_hooks}
    assert {'NonFiniteLossHook', 'EpochSeedHook', 'ThroughputHook'} <= hooks
    assert cfg.default_hooks.checkpoint.type == 'AtomicCheckpointHook'


def test_a_runner_class_of_the_config_is_built(tmp_path, monkeypatch):
    class OwnRunner(Runner):
        pass

    monkeypatch.setitem(RUNNERS.module_dict, 'OwnRunner', OwnRunner)
    cfg = Config(dict(model=dict(type='ImgDataPreprocessor'), work_dir=str(tmp_path), runner_type='OwnRunner'))
    assert type(build_runner(cfg)) is OwnRunner


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (FileNotFoundError('MNIST is missing'), 'error: MNIST is missing\n'),
        (KeyError('no such type'), 'error: no such type\n'),
        (NonFiniteLossError('step 3'), 'error: step 3\n'),
    ],
)
def test_errors_of_the_user_are_one_message(capsys, error, text):
    with pytest.raises(SystemExit, match='1'), reported_errors(show_traceback=False):
        raise error
    printed = capsys.readouterr().err
    assert text in printed
    assert 'Traceback' not in printed


def test_the_traceback_is_shown_when_asked(capsys):
    with pytest.raises(SystemExit), reported_errors(show_traceback=True):
        raise ValueError('wrong size')
    assert 'Traceback (most recent call last)' in capsys.readouterr().err


def test_the_model_is_gone_when_the_process_group_ends(monkeypatch):
    class Model:
        def __init__(self):
            self.cycle = self

    left = []
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'destroy_process_group', lambda: left.append(reference()))
    with reported_errors(show_traceback=False):
        reference = weakref.ref(Model())
    assert left == [None]


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), reported_errors(show_traceback=False):
        raise ZeroDivisionError
