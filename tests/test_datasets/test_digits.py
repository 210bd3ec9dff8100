import pytest
import torch

from fg_plugin.datasets import DigitsInMemory


def test_splits():
    train, test = DigitsInMemory('train'), DigitsInMemory('test')
    assert train.images.shape == (1437, 1, 28, 28)
    assert test.images.shape == (360, 1, 28, 28)
    assert test.targets['labels'].bincount().min() >= 35
    assert train.images.dtype == torch.uint8
    assert train.images.max() > 240
    assert train.images.min() == 0
    assert len(DigitsInMemory('val', val_size=100)) == 100
    assert DigitsInMemory(image_size=32, num_images=2).images.shape == (2, 1, 32, 32)


def test_same_every_time():
    assert torch.equal(DigitsInMemory().images, DigitsInMemory().images)


def test_image_size_too_small():
    with pytest.raises(ValueError, match='image_size should be at least 8, the size of the originals, but got 7'):
        DigitsInMemory(image_size=7)
