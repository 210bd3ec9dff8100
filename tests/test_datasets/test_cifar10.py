import os
import pickle
import re
import struct
import zipfile
import zlib
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from fg_plugin.datasets import CIFAR10InMemory
from fg_plugin.datasets.cifar10 import CLASSES


@pytest.fixture
def data_root(tmp_path):
    generator = np.random.default_rng(0)
    for part, count in (('train', 3), ('test', 2)):
        for class_name in CLASSES:
            folder = tmp_path / part / class_name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{class_name}_{number}.png')
    return tmp_path


def load(data_root, split='train', **kwargs):
    return CIFAR10InMemory(str(data_root), split, allow_partial=True, **kwargs)


def test_folders(data_root):
    train = load(data_root)
    assert train.images.shape == (30, 3, 32, 32)
    assert train.targets['labels'].tolist() == [label for label in range(10) for _ in range(3)]
    assert train.metainfo['classes'] == CLASSES
    pixels = np.asarray(Image.open(data_root / 'train/automobile/automobile_1.png'))
    assert np.array_equal(train.images[4].permute(1, 2, 0).numpy(), pixels)
    assert len(load(data_root, 'test')) == 20
    assert len(load(data_root, 'val', val_size=4)) == 4
    assert len(load(data_root, 'train', val_size=4)) == 26


def test_cache_gives_the_same_and_is_used(data_root, monkeypatch):
    first = load(data_root)
    monkeypatch.setattr('fg_plugin.datasets.image_folder._decode', None)
    second = load(data_root)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.targets['labels'], second.targets['labels'])
    assert sorted(file.name for file in data_root.iterdir()) == ['test', 'train', 'train_cache.npz']


def test_cache_is_made_again_when_files_change(data_root):
    before = load(data_root)
    (data_root / 'train/cat/cat_0.png').rename(data_root / 'train/cat/cat_9.png')
    renamed = load(data_root)
    assert torch.equal(renamed.images[11], before.images[9])
    (data_root / 'train/cat/cat_9.png').unlink()
    assert len(load(data_root)) == 29
    Image.new('RGB', (32, 32), 'red').save(data_root / 'train/airplane/airplane_0.png')
    assert load(data_root).images[0, :, 0, 0].tolist() == [255, 0, 0]


def test_damaged_cache_is_made_again(data_root):
    before = load(data_root)
    (data_root / 'train_cache.npz').write_bytes(b'PK\x03\x04 half a file')
    assert torch.equal(load(data_root).images, before.images)


def test_cache_with_a_damaged_header_of_an_array_is_made_again(data_root):
    before = load(data_root)
    cache = data_root / 'train_cache.npz'
    with np.load(cache) as arrays:
        np.savez(cache, fingerprint=arrays['fingerprint'], kept=arrays['kept'])
    with zipfile.ZipFile(cache, 'a') as archive:
        header = b"{'descr': '|u1', 'shape': ((((".ljust(127) + b'\n'
        archive.writestr('images.npy', b'\x93NUMPY\x01\x00' + struct.pack('<H', 128) + header)
    assert torch.equal(load(data_root).images, before.images)


def test_no_image_at_all(data_root):
    files = sorted((data_root / 'train').glob('*/*.png'))
    for file in files:
        file.write_bytes(b'damaged')
    for _ in range(2):  # decoded, then from the cache
        with pytest.raises(ValueError, match=re.escape(f'every image in {data_root}/train is corrupt, the first is ')):
            load(data_root, skip_corrupt=True)
    for file in files:
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r'CIFAR-10 is incomplete: the folders of the classes in .* hold no im'):
        load(data_root)


def test_without_write_permission_there_is_no_cache(data_root, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError('read-only file system')

    monkeypatch.setattr('pathlib.Path.touch', refuse)
    with pytest.warns(UserWarning, match='cannot cache the decoded images as .*train_cache.npz'):
        assert len(load(data_root)) == 30
    assert not (data_root / 'train_cache.npz').exists()


def test_incomplete_class(data_root):
    with pytest.raises(FileNotFoundError) as caught:
        CIFAR10InMemory(str(data_root))
    message = str(caught.value)
    assert 'CIFAR-10 is incomplete: ' in message
    assert 'train/airplane should hold 5000 images, but holds 3 (allow_partial=True accepts what is there)' in message
    assert 'To get it: unpack https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into' in message
    assert 'configs/demo_digits.py' in message


def test_missing_class_folder(data_root):
    for file in (data_root / 'train/ship').iterdir():
        file.unlink()
    (data_root / 'train/ship').rmdir()
    with pytest.raises(FileNotFoundError, match='has no folder ship'):
        load(data_root)


def test_corrupt_image_stops_or_is_skipped(data_root):
    path = data_root / 'train/bird/bird_2.png'
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=re.escape(f'corrupt image {path}: ')) as caught:
        load(data_root)
    assert 'Restore the file, or pass skip_corrupt=True' in str(caught.value)
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(UserWarning, match=r'skipped 1 corrupt image\(s\) of 30 in'):
            skipped = load(data_root, skip_corrupt=True)
        assert skipped.targets['labels'].bincount().tolist() == [3, 3, 2, 3, 3, 3, 3, 3, 3, 3]
    with pytest.raises(ValueError, match=re.escape(f'corrupt image {path}: it was skipped when the cache was made')):
        load(data_root)


@pytest.mark.parametrize('content', ['float', 'truncated header'])
def test_images_that_decode_to_no_pixels_are_corrupt(data_root, content):
    path = data_root / 'train/bird/bird_2.png'
    if content == 'float':
        Image.new('F', (32, 32), 0.5).save(path, 'TIFF')
    else:
        header = b'\x89PNG\r\n\x1a\n' + b'\0\0\0\x05IHDR' + bytes(5)
        path.write_bytes(header + zlib.crc32(header[12:]).to_bytes(4, 'big'))
    with pytest.raises(ValueError, match=re.escape(f'corrupt image {path}: ')):
        load(data_root)
    with pytest.warns(UserWarning, match=r'skipped 1 corrupt image\(s\) of 30 in'):
        assert len(load(data_root, skip_corrupt=True)) == 29


def test_images_of_16_bits_are_scaled(data_root):
    pixels = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    Image.fromarray(pixels).save(data_root / 'train/airplane/airplane_0.png')
    assert np.array_equal(load(data_root).images[0].numpy(), np.stack([pixels >> 8] * 3))


def test_image_of_another_size(data_root):
    Image.new('RGB', (32, 30)).save(data_root / 'train/dog/dog_1.png')
    with pytest.raises(ValueError, match=r'dog_1.png should be 32x32 pixels, but is 32x30'):
        load(data_root)


def test_official_batches(tmp_path, monkeypatch):
    base = tmp_path / CIFAR10.base_folder
    base.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    for name in ('data_batch_1', 'test_batch'):
        (base / name).write_bytes(pickle.dumps({'data': pixels, 'labels': list(range(10))}))
    (base / 'batches.meta').write_bytes(pickle.dumps({'label_names': list(CLASSES)}))
    monkeypatch.setattr(CIFAR10, 'train_list', [['data_batch_1', None]])
    monkeypatch.setattr(CIFAR10, 'test_list', [['test_batch', None]])
    monkeypatch.setattr(CIFAR10, 'meta', {'filename': 'batches.meta', 'key': 'label_names', 'md5': None})
    dataset = CIFAR10InMemory(str(tmp_path), download=False)
    assert np.array_equal(dataset.images.numpy().reshape(10, -1), pixels)
    assert dataset.targets['labels'].tolist() == list(range(10))


def test_no_data_and_no_download(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'neither .*cifar-10-batches-py .* nor .*train was found \(download='):
        CIFAR10InMemory(str(tmp_path), download=False)


def test_failed_download(tmp_path, monkeypatch):
    def fail(self):
        raise URLError('no network')

    monkeypatch.setattr(CIFAR10, 'download', fail)
    with pytest.raises(FileNotFoundError, match=r'the download failed: .*no network.*configs/demo_digits.py'):
        CIFAR10InMemory(str(tmp_path))


@pytest.mark.slow
def test_real_data():
    if not os.path.isdir('data/cifar10'):
        pytest.skip('data/cifar10 is absent')
    assert CIFAR10InMemory('data/cifar10').targets['labels'].bincount().tolist() == [5000] * 10
    assert CIFAR10InMemory('data/cifar10', 'test').targets['labels'].bincount().tolist() == [1000] * 10
