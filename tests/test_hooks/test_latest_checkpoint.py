import os

import pytest
from mmengine.config import Config

from fg_plugin.hooks import checkpoint_place, latest_checkpoint


def test_the_latest_checkpoint_is_where_the_pointer_says(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ('epoch_1.pth', 'epoch_2.pth', 'best_acc_epoch_2.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    assert latest_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'


@pytest.mark.parametrize('pointer', [None, '', '/moved/away/epoch_2.pth'])
def test_without_a_usable_pointer_the_newest_checkpoint_is_taken(tmp_path, pointer):
    for age, name in enumerate(('best_acc_epoch_2.pth', 'epoch_2.pth', 'epoch_1.pth')):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    assert latest_checkpoint(tmp_path) == tmp_path / 'epoch_2.pth'


def test_a_copied_folder_is_resumed_from_its_own_checkpoint(tmp_path):
    for folder in ('original', 'copy'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'epoch_1.pth').touch()
        (tmp_path / folder / 'last_checkpoint').write_text(str(tmp_path / 'original' / 'epoch_1.pth'))
    assert latest_checkpoint(tmp_path / 'copy') == tmp_path / 'copy' / 'epoch_1.pth'


def test_what_was_made_from_a_checkpoint_is_none(tmp_path):
    names = ('epoch_1.pth', 'epoch_1_frozen.pth', 'epoch_1-01234567.pth', 'best_acc_epoch_1.pth', 'swa.pth')
    for age, name in enumerate(names):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    assert latest_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'
    (tmp_path / 'epoch_1.pth').rename(tmp_path / 'iter_1500.pth')
    assert latest_checkpoint(tmp_path) == tmp_path / 'iter_1500.pth'
    (tmp_path / 'iter_1500.pth').unlink()
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize('template', ['ck.{}.pth', 'ck.{:03d}.pth'])
def test_checkpoints_of_other_names_in_another_folder(toy_runner, tmp_path, template):
    hook = {'default_hooks.checkpoint.out_dir': str(tmp_path / 'out')}
    hook['default_hooks.checkpoint.filename_tmpl'] = template
    cfg = toy_runner('run', **hook, **{'train_cfg.max_epochs': 2}).cfg
    toy_runner(
        'run', **hook, **{'train_cfg.max_epochs': 2, 'default_hooks.checkpoint.published_keys': ['meta']}
    ).train()
    expected = tmp_path / 'out' / 'run' / template.format(2)
    assert latest_checkpoint(cfg.work_dir, *checkpoint_place(cfg)) == expected
    (tmp_path / 'run' / 'last_checkpoint').unlink()
    assert latest_checkpoint(cfg.work_dir, *checkpoint_place(cfg)) == expected
    assert latest_checkpoint(cfg.work_dir) is None


def test_a_config_without_a_checkpoint_hook(tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    for hooks in ({}, {'default_hooks': {'checkpoint': None}}):
        cfg = Config(dict(work_dir=str(tmp_path), **hooks))
        assert latest_checkpoint(cfg.work_dir, *checkpoint_place(cfg)) == tmp_path / 'epoch_1.pth'
