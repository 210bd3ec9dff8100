import re

import pytest
import torch
from mmengine.registry import TRANSFORMS

from fg_plugin.datasets import BatchRandomCrop, BatchRandomFlip
from fg_plugin.datasets.transforms import crop_padded


def make_batch(count=64, height=6, width=7, **targets):
    torch.manual_seed(0)
    images = torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8)
    return {'inputs': images, 'data_samples': {'labels': torch.arange(count), **targets}}


def test_flip_is_per_sample():
    batch = make_batch()
    flipped = BatchRandomFlip(prob=0.5)(batch)
    changed = 0
    for before, after in zip(batch['inputs'], flipped['inputs'], strict=True):
        mirrored = torch.equal(after, before.flip(-1))
        assert mirrored or torch.equal(after, before)
        changed += mirrored
    assert 16 < changed < 48
    assert flipped['data_samples']['labels'] is batch['data_samples']['labels']


@pytest.mark.parametrize('prob', [0, 1])
def test_flip_never_and_always(prob):
    batch = make_batch()
    expected = batch['inputs'].flip(-1) if prob else batch['inputs']
    assert torch.equal(BatchRandomFlip(prob)(batch)['inputs'], expected)


def test_flip_refuses_landmarks_without_pairs():
    batch = make_batch(2, landmarks=torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match=r'batch with landmarks but no swap_pairs.*swap_pairs=\[\(0, 1\), \(3, 4\)\]'):
        BatchRandomFlip()(batch)


def test_flip_moves_and_swaps_landmarks():
    landmarks = torch.tensor([[[1.0, 2.0], [5.0, 2.0], [3.0, 3.0], [2.0, 4.0], [4.0, 5.0]]])
    batch = make_batch(1, landmarks=landmarks)
    flipped = BatchRandomFlip(1.0, swap_pairs=[(0, 1), (3, 4)])(batch)
    expected = [[1.0, 2.0], [5.0, 2.0], [3.0, 3.0], [2.0, 5.0], [4.0, 4.0]]
    assert flipped['data_samples']['landmarks'].tolist() == [expected]
    assert torch.equal(batch['data_samples']['landmarks'], landmarks)


def test_crop_equals_a_loop_over_samples():
    images = make_batch()['inputs']
    padding = 3
    offsets = torch.randint(0, 2 * padding + 1, (2, len(images)))
    cropped = crop_padded(images, padding, offsets)
    for image, crop, (top, left) in zip(images, cropped, offsets.T.tolist(), strict=True):
        expected = torch.zeros_like(image)
        for row in range(6):
            for column in range(7):
                source_row, source_column = row + top - padding, column + left - padding
                if 0 <= source_row < 6 and 0 <= source_column < 7:
                    expected[:, row, column] = image[:, source_row, source_column]
        assert torch.equal(crop, expected)


def test_crop_draws_for_each_sample():
    batch = make_batch(200)
    cropped = BatchRandomCrop(padding=1)(batch)['inputs']
    assert cropped.shape == batch['inputs'].shape
    assert cropped.dtype == torch.uint8
    same = (cropped == batch['inputs']).flatten(1).all(1)
    assert 5 < same.sum() < 50  # a ninth of 200


def test_crop_moves_landmarks_with_the_image():
    images = torch.zeros(50, 1, 11, 11, dtype=torch.uint8)
    images[:, 0, 6, 4] = 255
    batch = {'inputs': images, 'data_samples': {'landmarks': torch.tensor([[[4.0, 6.0]]]).expand(50, 1, 2)}}
    cropped = BatchRandomCrop(padding=2)(batch)
    for image, ((x, y),) in zip(cropped['inputs'], cropped['data_samples']['landmarks'].int().tolist(), strict=True):
        assert image[0, y, x] == 255


@pytest.mark.parametrize('corner', [(0, 0), (1, 0), (0, 1)])
def test_crop_refuses_to_lose_a_landmark(corner):
    images = make_batch(64)['inputs']
    # Its last pixel on one of the axes, its first on the other.
    landmarks = torch.tensor(corner) * (torch.tensor([images.shape[3], images.shape[2]]) - 1)
    batch = make_batch(64, landmarks=landmarks.float().expand(64, 5, 2).clone())
    with pytest.raises(ValueError, match=re.escape('BatchRandomCrop(padding=4) moved a landmark out of its image')):
        BatchRandomCrop(padding=4)(batch)


def test_crop_takes_landmarks_that_were_outside():
    landmarks = torch.tensor([[-30.0, 3.0], [3.0, 3.0], [3.0, 40.0]]).expand(64, 3, 2)
    batch = {'inputs': torch.zeros(64, 1, 11, 11, dtype=torch.uint8), 'data_samples': {'landmarks': landmarks}}
    moved = BatchRandomCrop(padding=2)(batch)['data_samples']['landmarks'] - landmarks
    assert torch.equal(moved, moved[:, :1].expand(64, 3, 2))
    assert moved.any()


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'type': 'BatchRandomFlip', 'prob': 1.5}, 'prob should be in [0, 1], but got 1.5'),
        ({'type': 'BatchRandomCrop', 'padding': 0}, 'padding should be at least 1, but got 0'),
    ],
)
def test_bad_arguments(config, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TRANSFORMS.build(config)
