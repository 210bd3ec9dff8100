import importlib.util
import re
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fg_plugin.datasets import MTFLLandmarks

_TOOL = Path(__file__).parents[1] / 'tools' / 'prepare_mtfl.py'
_COUNT = 12


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('prepare_mtfl', _TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules['prepare_mtfl'] = module  # worker processes find its functions by this name
    spec.loader.exec_module(module)
    yield module
    del sys.modules['prepare_mtfl']


@pytest.fixture
def mtfl_root(tmp_path):
    """An archive in the official layout: grey images with a white spot on each landmark."""
    root = tmp_path / 'MTFL'
    generator = np.random.default_rng(0)
    lines = []
    for number in range(_COUNT):
        folder = ('lfw_5590', 'net_7876')[number % 2]
        (root / folder).mkdir(parents=True, exist_ok=True)
        face = np.array([[-20, -24], [20, -24], [3, 2], [-15, 24], [15, 24]])
        landmarks = 125 + (face * generator.uniform(0.8, 1.5) + generator.uniform(-8, 8, (5, 2))).round()
        pixels = generator.integers(60, 90, (250, 250, 3), dtype=np.uint8)
        for x, y in landmarks.astype(int):
            pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
        Image.fromarray(pixels).save(root / folder / f'{number}.jpg', quality=95)
        fields = [f'{folder}\\{number}.jpg', *landmarks[:, 0], *landmarks[:, 1], 1, 2, 2, 3]
        lines.append(' '.join(map(str, fields)))
    (root / 'training.txt').write_bytes('\r\n '.join(lines).encode() + b'\r\n')
    return root


@pytest.fixture
def run(tool, mtfl_root, tmp_path):
    def run(*arguments, out='out'):
        tool.main(
            [
                '--mtfl-root',
                str(mtfl_root),
                '--out-dir',
                str(tmp_path / out),
                '--test-size=3',
                '--workers=1',
                *arguments,
            ]
        )
        return tmp_path / out

    return run


def test_both_variants(run):
    out = run()
    with np.load(out / 'align.npz') as align, np.load(out / 'rot.npz') as rot:
        assert align['images'].shape == rot['images'].shape == (_COUNT, 3, 64, 64)
        assert align['images'].dtype == np.uint8
        assert align['landmarks'].dtype == np.float32
        assert align['names'].tolist() == rot['names'].tolist()
        assert align['names'][1] == 'net_7876/1.jpg'
        assert sorted([*align['train'], *align['test']]) == list(range(_COUNT))
        assert len(align['test']) == 3
        assert align['test'].tolist() == rot['test'].tolist()
        assert np.abs(rot['angles']).max() <= 45
        assert not align['angles'].any()
        for archive in (align, rot):
            for image, landmarks in zip(archive['images'], archive['landmarks'], strict=True):
                for x, y in landmarks.round().astype(int):
                    assert image[:, y, x].min() > 180
        np.testing.assert_allclose(align['landmarks'][:, :2].mean(1), [[31.5, 20]] * _COUNT, atol=1e-4)
        radians = np.deg2rad(rot['angles'])[:, None]
        x, y = np.moveaxis(align['landmarks'] - 31.5, -1, 0)
        turned = np.stack([x * np.cos(radians) - y * np.sin(radians), x * np.sin(radians) + y * np.cos(radians)], -1)
        np.testing.assert_allclose(rot['landmarks'] - 31.5, turned, atol=1e-4)
    assert Image.open(out / 'contact_sheet.png').size[0] > 64
    assert len(MTFLLandmarks(str(out), 'rot', 'test')) == 3


def test_same_bytes_again_and_from_several_processes(run):
    first, again, parallel = run(), run(out='again'), run('--workers=2', out='parallel')
    for name in ('align.npz', 'rot.npz', 'contact_sheet.png'):
        assert (first / name).read_bytes() == (again / name).read_bytes() == (parallel / name).read_bytes()


def test_another_seed_changes_split_and_angles(run):
    with np.load(run() / 'rot.npz') as first, np.load(run('--seed=1', out='other') / 'rot.npz') as other:
        assert not np.array_equal(first['angles'], other['angles'])
        assert first['test'].tolist() != other['test'].tolist()


@pytest.mark.parametrize('other', [('--seed=1',), ('--angles', '60', '90'), ('--test-size=4',)])
def test_faces_of_other_options_are_replaced_only_when_asked(run, capsys, other):
    files = {path: path.read_bytes() for path in run().iterdir()}
    with pytest.raises(SystemExit, match=r'rot\.npz holds faces of other --angles, .* or --overwrite'):
        run(*other)
    assert {path: path.read_bytes() for path in files} == files
    # The same again is no other.
    run()
    changed = run(*other, '--overwrite') / 'rot.npz'
    assert changed.read_bytes() != files[changed]


def test_damaged_faces_are_replaced(run):
    path = run() / 'rot.npz'
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    run()
    assert path.read_bytes() == whole


def test_stronger_rotations_turn_the_same_faces_further(run):
    out, strong = run(), run('--angles', '60', '90', out='strong')
    assert (out / 'align.npz').read_bytes() == (strong / 'align.npz').read_bytes()
    with np.load(out / 'rot.npz') as first, np.load(strong / 'rot.npz') as other:
        assert first['test'].tolist() == other['test'].tolist()
        expected = np.sign(first['angles']) * (60 + np.abs(first['angles']) * 30 / 45)
        np.testing.assert_allclose(other['angles'], expected)


@pytest.mark.parametrize('angles', [('-1', '45'), ('45', '45'), ('0', '181'), ('nan', '45')])
def test_angles_out_of_range(run, angles):
    with pytest.raises(SystemExit, match=r'error: --angles should be 0 <= LEAST < LARGEST <= 180, but got '):
        run('--angles', *angles)


@pytest.mark.parametrize('file', [1, 2])
def test_interrupted_while_writing_the_old_files_stay(run, tool, monkeypatch, file):
    out = run()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    sheets = []

    def interrupted(*arguments):
        sheets.append(contact_sheet(*arguments))
        if len(sheets) == file:
            raise KeyboardInterrupt
        return sheets[-1]

    contact_sheet = tool.contact_sheet
    monkeypatch.setattr(tool, 'contact_sheet', interrupted)
    with pytest.raises(KeyboardInterrupt):
        run('--seed=1', '--overwrite')
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize('workers', [1, 2])
def test_corrupt_image_stops(run, mtfl_root, workers):
    path = mtfl_root / 'net_7876/3.jpg'
    path.write_bytes(path.read_bytes()[:3000])
    threads = set(threading.enumerate())
    with pytest.raises(SystemExit, match=re.escape(f'error: corrupt image {path}: ')) as caught:
        run(f'--workers={workers}')
    # A progress bar left to the garbage collector keeps its thread, and can block the next one. A stopped one is told
    # to end, and not waited for.
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert 'Restore the image, or pass --skip-corrupt' in str(caught.value)


def test_corrupt_image_is_skipped_and_changes_no_other(run, mtfl_root, capsys):
    with np.load(run() / 'rot.npz') as whole:
        images, test_names = whole['images'], set(whole['names'][whole['test']])
    (mtfl_root / 'net_7876/3.jpg').write_bytes(b'not an image')
    out = run('--skip-corrupt', out='skipped')
    printed = capsys.readouterr().out
    assert 'skipped: corrupt image' in printed
    assert re.search(r'11\s+faces.*1\s+skipped', printed, re.DOTALL)
    with np.load(out / 'rot.npz') as rest:
        assert np.array_equal(rest['images'], np.delete(images, 3, axis=0))
        assert set(rest['names'][rest['test']]) == test_names - {'net_7876/3.jpg'}


def test_whatever_a_decoder_raises_is_a_corrupt_image(run, mtfl_root):
    header = b'\x89PNG\r\n\x1a\n' + b'\0\0\0\x05IHDR' + bytes(5)
    path = mtfl_root / 'net_7876/3.jpg'
    path.write_bytes(header + zlib.crc32(header[12:]).to_bytes(4, 'big'))
    with pytest.raises(SystemExit, match=re.escape(f'error: corrupt image {path}: Truncated IHDR chunk. Restore')):
        run()


def test_photographs_of_16_bits_are_scaled(run, mtfl_root):
    with np.load(run() / 'align.npz') as archive:
        expected = archive['images'][3]
    path = mtfl_root / 'net_7876/3.jpg'
    grey = np.asarray(Image.open(path).convert('L'))
    Image.fromarray(grey.astype(np.uint16) * 257).save(path, 'PNG')
    with np.load(run(out='deep') / 'align.npz') as archive:
        assert np.abs(archive['images'][3].astype(int) - expected).mean() < 8


def edit_line(mtfl_root, number, edit):
    path = mtfl_root / 'training.txt'
    lines = path.read_text().splitlines()
    lines[number - 1] = edit(lines[number - 1])
    path.write_text('\n'.join(lines))


def test_wrong_number_of_fields(run, mtfl_root):
    edit_line(mtfl_root, 4, lambda line: line.rsplit(maxsplit=1)[0])
    with pytest.raises(SystemExit, match=r'training.txt, line 4: should have 15 fields .* but has 14'):
        run()


def with_coordinates(line, values):
    fields = line.split()
    return ' '.join([fields[0], *map(str, values), *fields[11:]])


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (
            [100, 150, 125, 110, 300] + [100] * 5,
            r'landmarks should lie within the 250x250 image, but line 2 of training',
        ),
        ([125] * 10, r'\(line 2 of training.txt\): eye centre and mouth centre should differ'),
        ([20, 230, 125, 110, 140, 120, 120, 130, 150, 150], r'\(line 2 of training.txt\): a landmark leaves the 64x64'),
    ],
)
def test_unusable_landmarks(run, mtfl_root, values, message):
    edit_line(mtfl_root, 2, lambda line: with_coordinates(line, values))
    with pytest.raises(SystemExit, match=message):
        run()


def test_missing_images(run, mtfl_root):
    for number in (2, 4):
        (mtfl_root / f'lfw_5590/{number}.jpg').unlink()
    with pytest.raises(SystemExit) as caught:
        run()
    message = str(caught.value)
    assert 'MTFL is incomplete: 2 of 12 images not found, the first is ' in message
    assert 'lfw_5590/2.jpg (line 3 of training.txt)' in message
    assert 'To get it: pass --download, or unpack http://mmlab.ie.cuhk.edu.hk/projects/TCDCN/data/MTFL.zip' in message
    assert 'configs/demo_unet_faces.py' in message


def test_missing_archive(run, mtfl_root):
    (mtfl_root / 'training.txt').unlink()
    with pytest.raises(SystemExit, match=r'MTFL is missing: .*training.txt not found\. To get it: pass --download'):
        run()


@pytest.mark.parametrize('size', [0, _COUNT])
def test_test_size_out_of_range(run, size):
    with pytest.raises(SystemExit, match=re.escape(f'--test-size should be in [1, 11], but got {size}')):
        run(f'--test-size={size}')


def test_no_workers(run):
    with pytest.raises(SystemExit, match='--workers should be at least 1, but got 0'):
        run('--workers=0')


@pytest.mark.parametrize(('top', 'interrupted'), [('', False), ('MTFL/', False), ('MTFL/', True)])
def test_download(run, tool, mtfl_root, tmp_path, monkeypatch, top, interrupted):
    served = tmp_path / 'served.zip'
    with zipfile.ZipFile(served, 'w') as archive:
        for path in [*mtfl_root.glob('*/*.jpg'), mtfl_root / 'training.txt']:
            archive.write(path, top + path.relative_to(mtfl_root).as_posix())
    monkeypatch.setattr(tool, 'URL', served.as_uri())
    if interrupted:
        (mtfl_root / 'lfw_5590/0.jpg').unlink()
    else:
        mtfl_root.rename(tmp_path / 'moved')
    assert (run('--download') / 'rot.npz').is_file()


def test_download_without_network(run, tool, mtfl_root, tmp_path, monkeypatch):
    mtfl_root.rename(tmp_path / 'moved')
    monkeypatch.setattr(tool, 'URL', (tmp_path / 'absent.zip').as_uri())
    with pytest.raises(SystemExit, match=r'MTFL is missing: the download of file.*absent.zip to .*MTFL.zip failed: '):
        run('--download')
    assert list(mtfl_root.iterdir()) == []


def test_download_of_something_else(run, tool, mtfl_root, tmp_path, monkeypatch):
    mtfl_root.rename(tmp_path / 'moved')
    page = tmp_path / 'page.html'
    page.write_text('moved permanently')
    monkeypatch.setattr(tool, 'URL', page.as_uri())
    with pytest.raises(SystemExit, match='failed: File is not a zip file'):
        run('--download')
    assert list(mtfl_root.iterdir()) == []


@pytest.mark.parametrize('damage', ['content', 'method', 'encrypted', 'truncated'])
def test_a_damaged_archive_is_downloaded_anew(run, tool, mtfl_root, tmp_path, monkeypatch, damage):
    served = tmp_path / 'served.zip'
    with zipfile.ZipFile(served, 'w', zipfile.ZIP_DEFLATED) as archive:
        for path in [*mtfl_root.glob('*/*.jpg'), mtfl_root / 'training.txt']:
            archive.write(path, path.relative_to(mtfl_root).as_posix())
    mtfl_root.rename(tmp_path / 'moved')
    mtfl_root.mkdir()
    content = bytearray(served.read_bytes())
    directory = content.index(b'PK\x01\x02')
    if damage == 'content':
        content[60:200] = b'\xff' * 140
    elif damage == 'method':
        content[directory + 10] = 77
    elif damage == 'encrypted':
        content[directory + 8] |= 1
        content[6] |= 1
    else:
        del content[directory - 5000 : directory]
    (mtfl_root / 'MTFL.zip').write_bytes(content)
    monkeypatch.setattr(tool, 'URL', served.as_uri())
    with pytest.raises(SystemExit, match=r'MTFL is missing: the download of .* failed: .+ To get it'):
        run('--download')
    assert list(mtfl_root.iterdir()) == []
    assert (run('--download') / 'rot.npz').is_file()
