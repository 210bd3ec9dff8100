"""What a model predicts with the filters of another image (section 4.4.2)."""

from torch import Tensor

from fg_plugin.analysis.samples import Samples
from fg_plugin.inference.tasks import Task, compare_answers, mean_distance, predicted_classes, share


def compare_swapped(task: Task, samples: Samples, own: Tensor, swapped: Tensor) -> dict[str, float]:
    """Compare predictions with the images' own filters and with those of others.

    Args:
        task: What is predicted.
        samples: The images.
        own: Answers (see ``tasks.answers``) with their own filters.
        swapped: The same with those of others.

    Returns:
        What ``compare_answers`` tells. Where the truth is known, also ``accuracy_own`` and ``accuracy_swapped`` of
        classes, or ``mean_error_own`` and ``mean_error_swapped`` of landmarks in pixels of the input.
    """
    result = compare_answers(task, own, swapped)
    if task == 'classification' and samples.labels is not None:
        result['accuracy_own'] = share(predicted_classes(own) == samples.labels)
        result['accuracy_swapped'] = share(predicted_classes(swapped) == samples.labels)
    if task == 'landmarks' and samples.landmarks is not None:
        result['mean_error_own'] = mean_distance(own, samples.landmarks)
        result['mean_error_swapped'] = mean_distance(swapped, samples.landmarks)
    return result
