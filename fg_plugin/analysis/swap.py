"""What a model predicts with the filters of another image (section 4.4.2)."""

from typing import Any

import torch
from torch import Tensor

from fg_plugin.analysis.samples import Samples
from fg_plugin.inference.loaded_model import Task


def compare_swapped(task: Task, samples: Samples, own: Tensor, swapped: Tensor) -> dict[str, Any]:
    """Compare predictions with the images' own filters and with those of others.

    Args:
        task: What is predicted.
        samples: The images.
        own: Logits ``(N, num_classes)`` or landmarks ``(N, K, 2)`` with their own filters.
        swapped: The same with those of others.

    Returns:
        For classes, ``agreement``, the share of images with the same prediction, and where the truth is known
        ``accuracy_own`` and ``accuracy_swapped``. For landmarks, ``mean_shift`` in pixels of the input and, with the
        truth, ``mean_error_own`` and ``mean_error_swapped``.
    """
    if task == 'classification':
        labels, swapped_labels = own.argmax(1), swapped.argmax(1)
        result = {'agreement': _share(labels == swapped_labels), 'chance': 1 / own.shape[1]}
        if samples.labels is not None:
            result['accuracy_own'] = _share(labels == samples.labels)
            result['accuracy_swapped'] = _share(swapped_labels == samples.labels)
        return result
    result = {'mean_shift': _distance(own, swapped)}
    if samples.landmarks is not None:
        result['mean_error_own'] = _distance(own, samples.landmarks)
        result['mean_error_swapped'] = _distance(swapped, samples.landmarks)
    return result


def _share(right: Tensor) -> float:
    return right.double().mean().item()


def _distance(points: Tensor, others: Tensor) -> float:
    return torch.linalg.vector_norm(points.double() - others.double(), dim=-1).mean().item()
