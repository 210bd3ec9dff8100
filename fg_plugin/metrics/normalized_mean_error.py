"""Landmark error relative to the interocular distance (section 4.2.1 of the paper)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class NormalizedMeanError(BaseMetric):
    """Mean and maximal landmark distance in percent of the distance between the true eye centres.

    Gives ``NME/<name>`` for each landmark (Figure 3), ``NME/AVG`` over all of them, and ``NME/maximal``, the largest
    error of any landmark in any image (Table 3). Each prediction should hold ``pred_landmarks`` and ``gt_landmarks``
    ``(K, 2)`` in the same units.

    Args:
        names: Names of the K landmarks, in order.
        eyes: Positions of the two eye centres among them.
        collect_device: See :class:`mmengine.evaluator.BaseMetric`.
        prefix: See :class:`mmengine.evaluator.BaseMetric`.
        collect_dir: See :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'NME'

    def __init__(
        self,
        names: Sequence[str] = ('LE', 'RE', 'NT', 'LMC', 'RMC'),
        eyes: tuple[int, int] = (0, 1),
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if len(set(eyes)) != 2 or not all(0 <= eye < len(names) for eye in eyes):
            raise ValueError(f'eyes should be two different positions below {len(names)}, but got {tuple(eyes)}')
        self.names = tuple(names)
        self.eyes = tuple(eyes)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps the K errors of each image, so that padding across ranks can be cut after gathering.

        Raises:
            KeyError: If a prediction has no ``gt_landmarks``.
            ValueError: If the two true eye centres of an image coincide, or the shapes are not ``(K, 2)``.
        """
        for position, sample in enumerate(data_samples):
            if 'gt_landmarks' not in sample:
                raise KeyError("a prediction should hold 'gt_landmarks': the data set gave none to compare with")
            predicted, truth = sample['pred_landmarks'].double(), sample['gt_landmarks'].double()
            expected = (len(self.names), 2)
            if predicted.shape != expected or truth.shape != expected:
                raise ValueError(
                    f'pred_landmarks and gt_landmarks should have shape {expected} for the names {self.names}, but got '
                    f'{tuple(predicted.shape)} and {tuple(truth.shape)}'
                )
            first, second = self.eyes
            interocular = torch.linalg.vector_norm(truth[first] - truth[second])
            if not interocular > 0:
                name = f'index {int(sample["index"])}' if 'index' in sample else f'place {position} of the batch'
                raise ValueError(
                    f'the interocular distance should be positive, but got {float(interocular)} for the sample of '
                    f'{name}: its true eye centres coincide; correct or remove its annotation'
                )
            self.results.append(100 * torch.linalg.vector_norm(predicted - truth, dim=-1) / interocular)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Means over the images for each landmark and overall, and the maximum over everything."""
        errors = torch.stack(results)
        means = dict(zip(self.names, errors.mean(0).tolist(), strict=True))
        return {**means, 'AVG': errors.mean().item(), 'maximal': errors.max().item()}
