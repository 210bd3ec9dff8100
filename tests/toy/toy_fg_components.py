"""A classifier with generated filters that trains in milliseconds, in double precision, for tests of whole runs."""

import os
import signal
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import Tensor, nn

from fg_plugin.datasets.in_memory import InMemoryDataset
from fg_plugin.models import ImageClassifier


@DATASETS.register_module()
class ToyImages(InMemoryDataset):
    """Noise with a bright quadrant, which is the label."""

    def __init__(self, length: int = 32, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(length) % 4
        images = torch.randint(0, 128, (length, 1, 2, 4, 2, 4), generator=generator, dtype=torch.uint8)
        images[torch.arange(length), :, labels // 2, :, labels % 2] += 100
        super().__init__(images.view(length, 1, 8, 8), {'labels': labels}, metainfo={'classes': ('0', '1', '2', '3')})


@MODELS.register_module()
class ToyBackbone(BaseModule):
    """Three convolutions with group normalisation: what it computes for an image does not depend on its batch.

    Args:
        norm: ``'group'``, ``'batch'`` or ``'sync'``.
        dropout: Rate of the dropout before the last convolution.
    """

    def __init__(self, norm: str = 'group', dropout: float = 0.0) -> None:
        super().__init__()
        norms = {'group': lambda width: nn.GroupNorm(1, width), 'batch': nn.BatchNorm2d, 'sync': nn.SyncBatchNorm}
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            norms[norm](4),
            nn.LeakyReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.LeakyReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=2),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.layers(x),)


@MODELS.register_module()
class ToyFGClassifier(ImageClassifier):
    """In double precision, so that a sum over processes differs from a sum over a batch by its last bits only.

    Args:
        frozen_encoder: Train only the neck, the heads and the backbone.
    """

    def __init__(self, frozen_encoder: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.double()
        if frozen_encoder:
            self.backbone.generator.autoencoder.requires_grad_(False)

    def forward(self, inputs: Tensor, data_samples: dict[str, Tensor] | None = None, mode: str = 'tensor') -> Any:
        return super().forward(inputs.double(), data_samples, mode)


@HOOKS.register_module()
class ToyKillHook(Hook):
    """Kills the second process after a step of torchrun's first attempt."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        first_attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT') == '0'
        if first_attempt and runner.rank == 1 and runner.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
