"""Classification accuracy."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Top-1 accuracy in percent, as ``accuracy/top1``.

    Each prediction should hold ``pred_label`` and ``gt_label``. See :class:`mmengine.evaluator.BaseMetric` for the
    arguments.
    """

    default_prefix = 'accuracy'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps one truth value an image, so that padding across ranks can be cut after gathering.

        Raises:
            KeyError: If a prediction has no ``gt_label``.
        """
        for sample in data_samples:
            if 'gt_label' not in sample:
                raise KeyError("a prediction should hold 'gt_label': the data set gave no labels to compare with")
            self.results.append(int(sample['pred_label']) == int(sample['gt_label']))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Share of right predictions over the whole data set."""
        return {'top1': 100 * sum(results) / len(results)}
