import os

import pytest

from fg_plugin.atomic_write import write_atomically


def test_written_whole(tmp_path):
    with write_atomically(tmp_path / 'file') as file:
        file.write(b'new')
        assert not (tmp_path / 'file').exists()
    assert (tmp_path / 'file').read_bytes() == b'new'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / 'file').write_bytes(b'old')

    def interrupted():
        with write_atomically(tmp_path / 'file') as file:
            file.write(b'half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / 'file').read_bytes() == b'old'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_permissions_are_those_of_a_new_file_or_of_the_old_one(tmp_path, umask):
    path = tmp_path / 'file'
    for mode in (0o640, 0o600, 0o444, 0o664):
        with write_atomically(path) as file:
            file.write(b'new')
            (temporary,) = (each for each in tmp_path.iterdir() if each != path)
            # From the beginning, as others could read it.
            assert temporary.stat().st_mode & 0o777 == mode
        assert path.stat().st_mode & 0o777 == mode
        path.chmod({0o640: 0o600, 0o600: 0o444, 0o444: 0o664}.get(mode, mode))


def test_the_temporary_file_is_hidden_and_its_name_short(tmp_path):
    path = tmp_path / ('n' * 255)
    with write_atomically(path):
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith('.')
        assert len(temporary.name) < 20
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
