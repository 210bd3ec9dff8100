"""Linear classifier on a flattened feature map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class LinearClsHead(BaseModule):
    """The last row of Tables 4 and 15: flattens the last feature map and classifies it with one linear layer.

    Args:
        in_channels: Length of the flattened feature map, C * H * W.
        num_classes: Number of classes.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(self, in_channels: int, num_classes: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if num_classes < 2:
            raise ValueError(f'num_classes should be at least 2, but got {num_classes}')
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Feature maps, of which the last ``(B, C, H, W)`` counts, to logits ``(B, num_classes)``.

        Raises:
            ValueError: If the flattened map does not have ``in_channels`` values.
        """
        features = feats[-1].flatten(1)
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f'the flattened feature map should have in_channels={self.in_channels} values, but got '
                f'{features.shape[1]} from a map of shape {tuple(feats[-1].shape)}; use images of the size that the '
                f'network was built for, or set in_channels={features.shape[1]} in the head'
            )
        return self.fc(features)

    def loss(self, feats: Sequence[Tensor], data_samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """Negative log likelihood of the softmax, eq. (3), and the batch's accuracy in percent."""
        logits, labels = self(feats), data_samples['labels']
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return {
            'loss_cls': F.cross_entropy(logits, labels),
            'train_accuracy': 100 * (logits.detach().argmax(1) == labels).float().mean(),
        }

    def predict(self, feats: Sequence[Tensor], data_samples: dict[str, Tensor] | None = None) -> list[dict]:
        """One dict an image: ``pred_label``, ``pred_scores (num_classes,)`` and, where known, ``gt_label``."""
        scores = self(feats).float().softmax(1).detach().cpu()
        results = [
            {'pred_label': label, 'pred_scores': score} for label, score in zip(scores.argmax(1), scores, strict=True)
        ]
        if data_samples is not None and 'labels' in data_samples:
            for result, label in zip(results, torch.as_tensor(data_samples['labels']).cpu(), strict=True):
                result['gt_label'] = label
        return results
