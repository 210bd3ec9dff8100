import re

import pytest
import torch
from mmengine.registry import DATASETS, FUNCTIONS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset

from fg_plugin.datasets import InMemoryDataset, batch_collate


def make_dataset(count=10, **kwargs):
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 4, 5).contiguous()
    return InMemoryDataset(images, {'labels': torch.arange(count) * 10}, **kwargs)


def add_one(batch):
    return {**batch, 'inputs': batch['inputs'] + 1}


def test_batch_holds_images_targets_and_index():
    batch = make_dataset().__getitems__([7, 2])
    assert batch['inputs'].shape == (2, 1, 4, 5)
    assert batch['inputs'].dtype == torch.uint8
    assert batch['inputs'][:, 0, 0, 0].tolist() == [7, 2]
    assert batch['data_samples']['labels'].tolist() == [70, 20]
    assert batch['data_samples']['index'].tolist() == [7, 2]


def test_sample_equals_batch_of_one():
    dataset = make_dataset(transforms=[add_one])
    sample = dataset[-1]
    assert sample['inputs'].shape == (1, 4, 5)
    assert sample['inputs'][0, 0, 0] == 10
    assert {name: target.item() for name, target in sample['data_samples'].items()} == {'labels': 90, 'index': 9}


def test_iteration_ends():
    assert [sample['data_samples']['index'].item() for sample in make_dataset(3)] == [0, 1, 2]


def test_index_out_of_range():
    with pytest.raises(IndexError, match=re.escape('index should be in [-3, 2], but got 3')):
        make_dataset(3)[3]


@pytest.mark.parametrize('workers', [0, 1])
def test_dataloader_of_torch(workers):
    loader = DataLoader(make_dataset(), batch_size=4, collate_fn=batch_collate, num_workers=workers)
    assert [batch['data_samples']['index'].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batch_collate_of_a_subset_and_of_single_samples():
    subset = Subset(make_dataset(), [5, 6, 7])
    (batch,) = DataLoader(subset, batch_size=3, collate_fn=batch_collate)
    assert batch['data_samples']['labels'].tolist() == [50, 60, 70]
    stacked = batch_collate([subset[0], subset[1], subset[2]])
    assert torch.equal(stacked['inputs'], batch['inputs'])
    assert torch.equal(stacked['data_samples']['labels'], batch['data_samples']['labels'])


def test_dataloader_of_mmengine():
    assert FUNCTIONS.get('batch_collate') is batch_collate
    loader = Runner.build_dataloader(
        {
            'batch_size': 100,
            'num_workers': 0,
            'collate_fn': {'type': 'batch_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': {'type': 'DigitsInMemory'},
        },
        seed=0,
    )
    batch = next(iter(loader))
    assert batch['inputs'].shape == (100, 1, 28, 28)
    assert batch['data_samples']['labels'].shape == (100,)


@pytest.mark.parametrize(
    'name', ['MNISTInMemory', 'CIFAR10InMemory', 'MTFLLandmarks', 'DigitsInMemory', 'RenderedFaces']
)
def test_registered(name):
    assert DATASETS.get(name).__name__ == name


@pytest.mark.parametrize(
    ('wrapper', 'length'),
    [
        (lambda dataset: dict(type='RepeatDataset', times=2, dataset=dataset), 24),
        (lambda dataset: dict(type='ConcatDataset', datasets=[dataset, dataset]), 24),
        (lambda dataset: dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=dataset), 12),
    ],
)
def test_dataset_wrappers_of_mmengine(wrapper, length):
    dataset = dict(type='DigitsInMemory', num_images=12)
    loader = Runner.build_dataloader(
        dict(
            batch_size=4,
            num_workers=0,
            collate_fn=dict(type='batch_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=wrapper(dataset),
        )
    )
    assert len(loader.dataset) >= length
    batch = next(iter(loader))
    assert torch.equal(batch['inputs'][0], DATASETS.build(dataset)[0]['inputs'])
    assert batch['data_samples']['labels'].shape == (4,)


def test_only_labelled_images_can_be_balanced_by_class():
    dataset = dict(type='RenderedFaces', num_images=4)
    with pytest.raises(ValueError, match='images should have labels to be balanced by class'):
        DATASETS.build(dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=dataset))


def test_transforms_by_config():
    dataset = make_dataset(transforms=[{'type': 'BatchRandomFlip', 'prob': 1.0}])
    dataset.images[0, 0, 0] = torch.arange(5)
    assert dataset[0]['inputs'][0, 0].tolist() == [4, 3, 2, 1, 0]


def test_subsets():
    assert make_dataset(num_images=3).targets['labels'].tolist() == [0, 30, 60]
    assert make_dataset(num_images=10).targets['labels'].tolist() == list(range(0, 100, 10))
    chosen = make_dataset(indices=[4, 2])
    assert chosen.targets['labels'].tolist() == [40, 20]
    assert chosen.images[:, 0, 0, 0].tolist() == [4, 2]
    assert chosen.__getitems__([1])['data_samples']['index'].tolist() == [1]


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'num_images': 11}, 'num_images should be in [1, 10], the size of the data set, but got 11'),
        ({'num_images': 0}, 'num_images should be in [1, 10]'),
        ({'indices': []}, 'indices should name at least one image'),
        ({'indices': [3, 10]}, 'indices should be in [0, 9], but they range from 3 to 10'),
        ({'indices': [-1]}, 'indices should be in [0, 9], but they range from -1 to -1'),
        ({'indices': [1], 'num_images': 1}, 'give either indices or num_images, not both'),
    ],
)
def test_impossible_subsets(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_dataset(**kwargs)


@pytest.mark.parametrize(
    ('images', 'targets', 'message'),
    [
        (
            torch.zeros(2, 1, 4, 4),
            {},
            'images should be a uint8 tensor of shape (N, C, H, W), but got torch.float32 of shape (2, 1, 4, 4)',
        ),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), {}, 'but got torch.uint8 of shape (2, 4, 4)'),
        (torch.zeros(0, 1, 4, 4, dtype=torch.uint8), {}, 'images should hold at least one image'),
        (
            torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
            {'labels': torch.zeros(3)},
            "targets['labels'] should have one entry an image (2), but got 3",
        ),
        (
            torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
            {'index': torch.zeros(2)},
            "targets should not be named 'index'",
        ),
    ],
)
def test_malformed_tensors(images, targets, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        InMemoryDataset(images, targets)
