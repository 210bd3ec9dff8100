import os

import pytest
from mmengine.fileio import LocalBackend, get_file_backend

from fg_plugin.compat import AtomicLocalBackend


def test_mmengine_needs_the_shim(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'good')
    with pytest.raises(TypeError):
        LocalBackend().put(None, path)
    assert path.read_bytes() == b''


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'good')
    monkeypatch.setattr(os, 'fsync', interrupt)
    with pytest.raises(KeyboardInterrupt):
        AtomicLocalBackend().put(b'half', path)
    assert path.read_bytes() == b'good'

    monkeypatch.undo()
    AtomicLocalBackend().put(b'new', path)
    assert path.read_bytes() == b'new'
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folders_are_made_and_text_is_encoded(tmp_path):
    path = tmp_path / 'a' / 'b.txt'
    backend = get_file_backend(path, backend_args=dict(backend='atomic_local'))
    backend.put_text('mü', str(path))
    assert path.read_text(encoding='utf-8') == 'mü'
