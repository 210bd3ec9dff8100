import struct
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from fg_plugin.datasets import MNISTInMemory


def write_idx(path, array):
    header = struct.pack('>HBB', 0, 8, array.ndim) + struct.pack(f'>{array.ndim}I', *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def data_root(tmp_path):
    raw = tmp_path / 'MNIST' / 'raw'
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, count in (('train', 20), ('t10k', 8)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(raw / f'{part}-images-idx3-ubyte', images)
        write_idx(raw / f'{part}-labels-idx1-ubyte', (np.arange(count) % 10).astype(np.uint8))
    return tmp_path


def test_splits(data_root):
    train = MNISTInMemory(str(data_root))
    assert train.images.shape == (20, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.targets['labels'].dtype == torch.int64
    assert train.targets['labels'].tolist() == [*range(10), *range(10)]
    assert train.metainfo['classes'][7] == '7'
    assert len(MNISTInMemory(str(data_root), 'test')) == 8
    assert len(MNISTInMemory(str(data_root), 'train', val_size=5)) == 15
    assert len(MNISTInMemory(str(data_root), 'val', val_size=5)) == 5
    assert len(MNISTInMemory(str(data_root), num_images=4)) == 4


def test_wrong_split(data_root):
    with pytest.raises(ValueError, match="split should be 'train', 'val' or 'test', but got 'eval'"):
        MNISTInMemory(str(data_root), 'eval')


def test_missing_file_without_download(data_root):
    (data_root / 'MNIST/raw/t10k-labels-idx1-ubyte').unlink()
    with pytest.raises(FileNotFoundError) as caught:
        MNISTInMemory(str(data_root), download=False)
    message = str(caught.value)
    assert 'MNIST is incomplete: t10k-labels-idx1-ubyte not found in' in message
    assert 'download=False was given' in message
    assert 'To get it: put the four official files' in message
    assert 'Without it, configs/demo_digits.py trains on data that needs no download.' in message


@pytest.mark.parametrize('error', [RuntimeError('Error downloading train'), URLError('no network')])
def test_failed_download(tmp_path, monkeypatch, error):
    def fail(self):
        raise error

    monkeypatch.setattr(MNIST, 'download', fail)
    with pytest.raises(FileNotFoundError) as caught:
        MNISTInMemory(str(tmp_path))
    message = str(caught.value)
    assert 'train-images-idx3-ubyte, train-labels-idx1-ubyte' in message
    assert f'the download failed: {error}' in message
    assert 'configs/demo_digits.py' in message


def test_damaged_file(data_root):
    path = data_root / 'MNIST/raw/train-images-idx3-ubyte'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r'an MNIST file is damaged: .*train-images-idx3-ubyte'):
        MNISTInMemory(str(data_root))


@pytest.mark.parametrize(
    ('name', 'start'),
    [('images-idx3', b'\0\0\x0a\x03'), ('images-idx3', b'\0\0\x0b\x03'), ('labels-idx1', b'\0\0\x07\x01')],
)
def test_damaged_header(data_root, name, start):
    path = data_root / f'MNIST/raw/train-{name}-ubyte'
    path.write_bytes(start + path.read_bytes()[4:])
    with pytest.raises(ValueError, match=r'an MNIST file is damaged: .*train-images-idx3-ubyte or train-labels-idx1-u'):
        MNISTInMemory(str(data_root))


def test_images_of_another_size_and_labels_of_no_digit(data_root):
    message = r'train-labels-idx1-ubyte does not hold images of 28x28 pixels, or labels from 0 to 9; delete both'
    raw = data_root / 'MNIST/raw'
    write_idx(raw / 'train-images-idx3-ubyte', np.zeros((20, 28, 14), dtype=np.uint8))
    with pytest.raises(ValueError, match=message):
        MNISTInMemory(str(data_root))
    write_idx(raw / 'train-images-idx3-ubyte', np.zeros((20, 28, 28), dtype=np.uint8))
    write_idx(raw / 'train-labels-idx1-ubyte', np.full(20, 200, dtype=np.uint8))
    with pytest.raises(ValueError, match=message):
        MNISTInMemory(str(data_root))


def test_image_and_label_counts_differ(data_root):
    write_idx(data_root / 'MNIST/raw/train-labels-idx1-ubyte', np.zeros(19, dtype=np.uint8))
    with pytest.raises(ValueError, match='holds 20 images but 19 labels'):
        MNISTInMemory(str(data_root))
