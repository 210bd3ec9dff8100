"""A model, a data set and a metric that train in milliseconds, for tests of tools, hooks and shims."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Points in the unit square; the label says on which side of the diagonal they lie."""

    def __init__(self, length: int = 23) -> None:
        self.metainfo = dict(classes=('below', 'above'))
        self.points = torch.rand(length, 2, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict:
        point = self.points[index]
        return dict(inputs=point, data_samples=dict(label=int(point[0] < point[1]), index=index))


@MODELS.register_module()
class ToyModel(BaseModel):
    """Dropout and batch norm, so that a resumed run must repeat random numbers and buffers.

    Args:
        width: Number of hidden units.
        nan_loss_at: Number of the training step whose loss is made NaN.
        nan_weight_at: Number of the training step before which a weight that no loss depends on is made NaN.
    """

    def __init__(self, width: int = 8, nan_loss_at: int | None = None, nan_weight_at: int | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, 2))
        self.register_buffer('unused', torch.zeros(1))
        self.nan_loss_at = nan_loss_at
        self.nan_weight_at = nan_weight_at
        self.steps = 0
        self.logits_dtype: torch.dtype | None = None

    def forward(self, inputs: Tensor, data_samples: dict | None = None, mode: str = 'tensor') -> Any:
        logits = self.layers(inputs)
        if mode == 'tensor' or data_samples is None:
            return logits
        if mode == 'predict':
            return [
                dict(right=int(label) == int(logit.argmax()), index=int(index))
                for logit, label, index in zip(logits, data_samples['label'], data_samples['index'], strict=True)
            ]
        self.steps += 1
        self.logits_dtype = logits.dtype
        if self.steps == self.nan_weight_at:
            self.unused.fill_(float('nan'))
        loss = nn.functional.cross_entropy(logits.float(), data_samples['label'])
        if self.steps == self.nan_loss_at:
            loss = loss * float('nan')
        return dict(loss_cls=loss, loss_rec=0.1 * logits.float().square().mean())


@METRICS.register_module()
class ToyAccuracy(BaseMetric):
    """Share of right answers, with the number, the sum and the range of the indices of the images it is over."""

    default_prefix = 'toy'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results += [(sample['right'], sample['index']) for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, Any]:
        right, indices = zip(*results, strict=True)
        values = dict(acc=sum(right) / len(right), images=len(right), index_sum=sum(indices))
        # As of mmpretrain's metrics of each class.
        return dict(**values, index_range=[min(indices), max(indices)])


@METRICS.register_module()
class ToyEpochMetric(BaseMetric):
    """Improves in every epoch."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epoch = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.epoch += 1
        return dict(epoch=self.epoch)


@HOOKS.register_module()
class ToyRandomRecorder(Hook):
    """Notes a random number at the start of each epoch."""

    def __init__(self, seen: list[float]) -> None:
        self.seen = seen

    def before_train_epoch(self, runner: Any) -> None:
        self.seen.append(torch.rand(()).item())
