import os
import re
import struct
import zipfile

import numpy as np
import pytest
import torch

from fg_plugin.datasets import MTFLLandmarks


@pytest.fixture
def data_root(tmp_path):
    for number, variant in enumerate(('align', 'rot')):
        images = np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((10, 3, 64, 64), dtype=np.uint8)
        landmarks = np.full((10, 5, 2), 10 + number, dtype=np.float32)
        np.savez(
            tmp_path / f'{variant}.npz',
            images=images,
            landmarks=landmarks,
            train=np.array([0, 1, 3, 4, 6, 7, 9]),
            test=np.array([2, 5, 8]),
        )
    return tmp_path


def test_splits_and_variants(data_root):
    train = MTFLLandmarks(str(data_root))
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 3, 4, 6, 7, 9]
    assert train.images.dtype == torch.uint8
    assert train.targets['landmarks'].shape == (7, 5, 2)
    assert train.targets['landmarks'].dtype == torch.float32
    assert train.metainfo == {'dataset': 'MTFL D-Align', 'landmark_names': ('LE', 'RE', 'NT', 'LMC', 'RMC')}
    test = MTFLLandmarks(str(data_root), 'rot', 'test')
    assert test.images[:, 0, 0, 0].tolist() == [2, 5, 8]
    assert (test.targets['landmarks'] == 11).all()


def test_val_is_the_same_in_both_variants_and_apart_from_train(data_root):
    held_out = [MTFLLandmarks(str(data_root), variant, 'val', val_size=2).images for variant in ('align', 'rot')]
    assert torch.equal(*held_out)
    train = MTFLLandmarks(str(data_root), 'rot', 'train', val_size=2).images
    values = torch.cat([held_out[0], train])[:, 0, 0, 0]
    assert values.sort().values.tolist() == [0, 1, 3, 4, 6, 7, 9]


def test_not_prepared(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        MTFLLandmarks(str(tmp_path), 'rot')
    message = str(caught.value)
    assert f'MTFL is not prepared: {tmp_path}/rot.npz not found' in message
    assert f'run python tools/prepare_mtfl.py --mtfl-root data/MTFL --out-dir {tmp_path} (with --download' in message
    assert 'Without it, configs/demo_unet_faces.py trains on data that needs no download.' in message


def test_damaged_file(data_root):
    path = data_root / 'align.npz'
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r'align.npz is damaged \(.*\): run tools/prepare_mtfl.py again'):
        MTFLLandmarks(str(data_root))


def rewrite(path, **arrays):
    with np.load(path) as archive:
        np.savez(path, **{**archive, **arrays})


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'test': np.array([2, 5, 10])}, 'test should hold positions of its 10 images'),
        ({'train': np.array([-1, 5])}, 'train should hold positions of its 10 images'),
        ({'train': np.array([0.0, 5.0])}, 'train should hold positions of its 10 images'),
        ({'landmarks': np.zeros((9, 5, 2), np.float32)}, 'landmarks should be float32 (10, 5, 2), but are float32 (9'),
        ({'images': np.zeros((10, 3, 64, 64))}, 'images should be uint8 (N, C, H, W), but are float64 (10, 3, 64, 64)'),
    ],
)
def test_damaged_arrays(data_root, arrays, message):
    rewrite(data_root / 'align.npz', **arrays)
    with pytest.raises(ValueError, match=re.escape(f'align.npz is damaged ({message}')):
        MTFLLandmarks(str(data_root), 'align', 'test')


@pytest.mark.parametrize('header', [b"{'descr': '|u1', 'fortran_order': False, 'shape': ((((", b'{\x00', b''])
def test_damaged_header_of_an_array(data_root, header):
    path = data_root / 'align.npz'
    with np.load(path) as archive:
        arrays = dict(archive)
    del arrays['images']
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('images.npy', b'\x93NUMPY\x01\x00' + struct.pack('<H', 128) + header.ljust(127) + b'\n')
    with pytest.raises(ValueError, match=r'align.npz is damaged \(.+\): run tools/prepare_mtfl.py again'):
        MTFLLandmarks(str(data_root))


def test_variants_of_two_seeds(data_root):
    rewrite(data_root / 'rot.npz', test=np.array([2, 5, 9]), train=np.array([0, 1, 3, 4, 6, 7, 8]))
    for variant in ('align', 'rot'):
        with pytest.raises(ValueError, match=r'and .*npz should have the same faces for training and test, but they'):
            MTFLLandmarks(str(data_root), variant)
    (data_root / 'align.npz').write_bytes(b'damaged')
    assert len(MTFLLandmarks(str(data_root), 'rot')) == 7
    (data_root / 'align.npz').unlink()
    assert len(MTFLLandmarks(str(data_root), 'rot')) == 7


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'variant': 'rotated'}, "variant should be 'align' or 'rot', but got 'rotated'"),
        ({'split': 'all'}, "split should be 'train', 'val' or 'test', but got 'all'"),
        ({'val_size': 7}, 'val_size should be in [0, 6] for 7 training images, but got 7'),
    ],
)
def test_bad_arguments(data_root, kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MTFLLandmarks(str(data_root), **kwargs)


@pytest.mark.slow
def test_real_data():
    if not os.path.isfile('data/mtfl_64/rot.npz'):
        pytest.skip('data/mtfl_64 is absent: tools/prepare_mtfl.py makes it')
    for split, count in (('train', 9000), ('test', 1000)):
        for variant in ('align', 'rot'):
            dataset = MTFLLandmarks('data/mtfl_64', variant, split)
            assert dataset.images.shape == (count, 3, 64, 64)
            distance = (dataset.targets['landmarks'] - 31.5).norm(dim=-1)
            assert distance.max() < 27.5
