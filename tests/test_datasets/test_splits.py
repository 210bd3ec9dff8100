import re

import pytest
import torch

from fg_plugin.datasets.splits import check_split, held_out_split


def test_train_and_val_partition_the_training_set():
    train, val = held_out_split(100, 30, 'train'), held_out_split(100, 30, 'val')
    assert len(val) == 30
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(100))
    assert torch.equal(val, held_out_split(100, 30, 'val'))
    assert val.tolist() != list(range(70, 100))


def test_nothing_held_out_keeps_the_order():
    assert torch.equal(held_out_split(10, 0, 'train'), torch.arange(10))


@pytest.mark.parametrize('val_size', [-1, 10, 11])
def test_val_size_out_of_range(val_size):
    message = f'val_size should be in [0, 9] for 10 training images, but got {val_size}'
    with pytest.raises(ValueError, match=re.escape(message)):
        held_out_split(10, val_size, 'train')


def test_val_without_val_size():
    with pytest.raises(ValueError, match=r"split='val' needs val_size >= 1: with val_size=0 nothing is held out"):
        held_out_split(10, 0, 'val')


def test_unknown_split():
    assert check_split('val') == 'val'
    with pytest.raises(ValueError, match="split should be 'train', 'val' or 'test', but got 'valid'"):
        check_split('valid')
