import os

import pytest

from fg_plugin.hooks import latest_checkpoint


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
