import json
import uuid
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from fg_plugin.hooks import SwapEvaluationHook
from fg_plugin.models import ImageClassifier
from fg_plugin.swapping import other_images

CONFIGS = Path(__file__).parents[2] / 'configs'


class LeakyBackbone(BaseModule):
    """A backbone whose features are those of the conditioning image, where there is one."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 1)
        self.other = None

    def forward(self, x):
        return (x if self.other is None else self.other,)

    @contextmanager
    def conditioned_on(self, x):
        self.other = x
        yield
        self.other = None


class NestedBackbone(BaseModule):
    """A backbone that holds one that generates filters, as another toolbox's wrapper of timm's networks does."""

    def __init__(self):
        super().__init__()
        self.network = LeakyBackbone()

    def forward(self, x):
        return self.network(x)


class LabelledImages(torch.utils.data.Dataset):
    """Image i is a one-hot vector of its label i."""

    def __len__(self):
        return 10

    def __getitems__(self, indices):
        index = torch.as_tensor(indices)
        images = (255 * torch.eye(10, dtype=torch.uint8))[index].view(-1, 1, 1, 10)
        return {'inputs': images, 'data_samples': {'labels': index, 'index': index}}


class SingleImages(torch.utils.data.Dataset):
    """The same, one by one."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        batch = LabelledImages().__getitems__([index])
        return {'inputs': batch['inputs'][0], 'data_samples': {'labels': index, 'index': index}}


def test_other_images_are_uniform_over_the_others():
    count = 5
    counts = torch.zeros(count, count)
    for seed in range(2000):
        counts[torch.arange(count), other_images(count, seed)] += 1
    assert (counts.diagonal() == 0).all()
    others = counts[~torch.eye(count, dtype=torch.bool)]
    assert others.min() > 400
    assert others.max() < 600


@pytest.mark.parametrize('backbone', [LeakyBackbone, NestedBackbone])
@pytest.mark.parametrize(
    ('dataset', 'collate'),
    [(LabelledImages(), lambda batch: batch), (SingleImages(), torch.utils.data.default_collate)],
)
def test_predictions_follow_the_other_image(dataset, collate, backbone):
    model = ImageClassifier(backbone(), {'type': 'LinearClsHead', 'in_channels': 10, 'num_classes': 10})
    with torch.no_grad():
        model.head.fc.weight.copy_(torch.eye(10))
        model.head.fc.bias.zero_()
    dataloader = torch.utils.data.DataLoader(dataset, batch_size=4, collate_fn=collate)
    hook = SwapEvaluationHook()
    assert hook._evaluate(model, dataloader) == {'accuracy/top1': 0}
    # Its own image instead of another one gives all labels back.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('fg_plugin.hooks.swap_evaluation_hook.other_images', lambda count, seed: torch.arange(count))
        assert hook._evaluate(model, dataloader) == {'accuracy/top1': 100}


class ElementsWithoutIndex(torch.utils.data.Dataset):
    """The same as OpenMMLab's data sets have it: a sample is a data element, which does not know its position."""

    def __init__(self):
        self.metainfo = {'classes': tuple('0123456789')}

    def __len__(self):
        return 10

    def __getitem__(self, index):
        image = LabelledImages().__getitems__([index])['inputs'][0].float()
        return {'inputs': image, 'data_samples': BaseDataElement(gt_label=index)}


class ElementModel(BaseModel):
    """Predicts where its backbone's features are largest."""

    def __init__(self):
        super().__init__()
        self.backbone = LeakyBackbone()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        images = torch.stack(inputs) if isinstance(inputs, list) else inputs
        for sample, features in zip(data_samples, self.backbone(images)[0], strict=True):
            sample.pred_label = int(features.flatten().argmax())
        return data_samples

    def stacked(self, data, training):
        return {**data, 'inputs': torch.stack(data['inputs'])}


class ElementAccuracy(BaseMetric):
    """Wants what mmengine's evaluator gives: samples as dictionaries, and what is known of the data set."""

    def process(self, data_batch, data_samples):
        self.results += [sample['pred_label'] == sample['gt_label'] for sample in data_samples]

    def compute_metrics(self, results):
        return {f'of_{len(self.dataset_meta["classes"])}': 100 * sum(results) / len(results)}


def test_data_elements_without_an_index():
    model = ElementModel()
    model.data_preprocessor.forward = model.stacked
    dataset = ElementsWithoutIndex()
    sampler = DefaultSampler(dataset, shuffle=True)
    dataloader = torch.utils.data.DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=pseudo_collate)
    hook = SwapEvaluationHook()
    hook.metric = ElementAccuracy()
    assert hook._evaluate(model, dataloader) == {'of_10': 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('fg_plugin.hooks.swap_evaluation_hook.other_images', lambda count, seed: torch.arange(count))
        assert hook._evaluate(model, dataloader) == {'of_10': 100}


def digits_runner(folder, config, interval=0, settings=None):
    cfg = Config.fromfile(CONFIGS / config, lazy_import=False)
    base = {
        'work_dir': str(folder),
        'experiment_name': uuid.uuid4().hex,
        'train_dataloader.dataset.num_images': 64,
        'val_dataloader.dataset.num_images': 20,
        'test_dataloader.dataset.num_images': 20,
        'default_hooks.swap.interval': interval,
    }
    cfg.merge_from_dict({**base, **(settings or {'train_cfg.max_epochs': 3})})
    return Runner.from_cfg(cfg)


def swap_lines(folder):
    log = next(folder.glob('*/*.log')).read_text()
    return ['swap/accuracy_top1' in line for line in log.splitlines() if '(val)' in line and 'accuracy/top1' in line]


@pytest.mark.parametrize(('interval', 'epochs'), [(0, [False, False, True]), (2, [False, True, True])])
def test_logged_at_the_wanted_epochs(tmp_path, interval, epochs):
    runner = digits_runner(tmp_path, 'demo_digits.py', interval)
    runner.train()
    assert swap_lines(tmp_path) == epochs
    assert '"swap/accuracy_top1"' in (tmp_path / 'metrics.json').read_text()


def test_a_training_that_is_stopped_early_is_evaluated_at_its_end(tmp_path):
    runner = digits_runner(tmp_path, 'demo_digits.py', settings={'train_cfg.max_epochs': 9})
    runner.register_hook(
        EarlyStoppingHook(monitor='accuracy/top1', rule='greater', min_delta=101, patience=1), priority='LOWEST'
    )
    runner.train()
    report = json.loads((tmp_path / 'metrics.json').read_text())
    assert report['epochs'] < 9
    assert 0 <= report['metrics']['swap/accuracy_top1'] <= 100


@pytest.mark.parametrize(('interval', 'validations'), [(0, [False, False, True]), (4, [False, True, True])])
def test_logged_at_the_wanted_iterations(tmp_path, interval, validations):
    settings = {
        'train_cfg': dict(type='IterBasedTrainLoop', max_iters=6, val_interval=2, _delete_=True),
        'param_scheduler': [],
        'default_hooks.checkpoint.by_epoch': False,
        'log_processor.by_epoch': False,
    }
    runner = digits_runner(tmp_path, 'demo_digits.py', interval, settings)
    runner.train()
    assert swap_lines(tmp_path) == validations
    assert '"swap/accuracy_top1"' in (tmp_path / 'metrics.json').read_text()


def test_a_baseline_is_left_alone(tmp_path):
    digits_runner(tmp_path, 'demo_digits_baseline.py').train()
    assert swap_lines(tmp_path) == [False, False, False]


def test_a_model_without_a_backbone_is_left_alone():
    metrics = {}
    SwapEvaluationHook().after_test_epoch(
        SimpleNamespace(model=torch.nn.Linear(1, 1), test_dataloader=None), metrics=metrics
    )
    assert metrics == {}


def test_a_test_run_evaluates_too(tmp_path):
    assert 'swap/accuracy_top1' in digits_runner(tmp_path, 'demo_digits.py').test()


def test_one_image_has_no_other():
    with pytest.raises(ValueError, match='needs at least 2 images in the data set, but got 1'):
        other_images(1, 0)


def test_negative_interval():
    with pytest.raises(ValueError, match=r'interval should be 0 \(at the end\) or .* but got -1'):
        SwapEvaluationHook(interval=-1)
