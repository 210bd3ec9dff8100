"""What a network predicts, and how two predictions for the same images are compared."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Task = Literal['classification', 'landmarks', 'segmentation', 'features']

_OUTPUT_NAMES = {
    'classification': ('logits',),
    'landmarks': ('heatmaps', 'landmarks'),
    'segmentation': ('logits',),
}


def output_tensors(out: Any) -> tuple[Tensor, ...]:
    """Return the tensors of what a network returned, in their order."""
    return tuple(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))


@torch.no_grad()
def run_once(network: nn.Module, input_size: tuple[int, int, int], source: str) -> tuple[Tensor, ...]:
    """Return what a network gives for two black images of ``input_size`` (C, H, W).

    Raises:
        ValueError: If these are no tensors that begin with the batch, or the network does not run on such images.
    """
    try:
        out = output_tensors(network(torch.zeros(2, *input_size)))
    # Networks check the size of their input by assertions, or by no more than the shapes that do not fit.
    except Exception as error:
        raise ValueError(
            f'The model of {source} should run on images of {"x".join(map(str, input_size))} (--input-size, that of '
            f'the training), but it raised {type(error).__name__}: {error}'
        ) from error
    shapes = [tuple(tensor.shape) for tensor in out]
    if not out or any(len(shape) < 2 or shape[0] != 2 for shape in shapes):
        raise ValueError(
            f'The model of {source} should return tensors that begin with the batch and have at least two dimensions, '
            f'but for two images their shapes are {shapes or "none"}.'
        )
    return out


def output_names(task: Task, outputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Return a name for each output of a network."""
    if task == 'features':
        return tuple(f'features_{index}' for index in range(len(outputs)))
    return _OUTPUT_NAMES[task]


def answers(task: Task, outputs: tuple[Tensor, ...]) -> Tensor:
    """Return what is compared of the outputs for a batch.

    Returns:
        Logits ``(B, num_classes)``, landmarks ``(B, K, 2)``, the class of each pixel ``(B, H, W)`` in the resolution of
        the logits, or the means of all feature maps ``(B, C)``.
    """
    if task == 'segmentation':
        return pixel_classes(outputs[0])
    if task == 'features':
        return torch.cat([_channel_means(out) for out in outputs], dim=1)
    return outputs[-1]


def _channel_means(features: Tensor) -> Tensor:
    """Return the means ``(B, C)`` of maps ``(B, C, H, W)`` or ``(B, H, W, C)`` or of tokens ``(B, N, C)``."""
    if features.ndim == 2:
        return features
    # As timm's Swin has them. No module tells it of its output, but images are mostly square.
    channels_last = features.ndim == 4 and features.shape[1] == features.shape[2] != features.shape[3]
    if features.ndim == 3 or channels_last:
        features = features.movedim(-1, 1)
    return features.flatten(2).mean(2)


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the class of each image ``(B,)`` or pixel ``(B, H, W)``. A single logit tells class 1 from class 0."""
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()


def pixel_classes(logits: Tensor) -> Tensor:
    """Return the class of each pixel ``(B, H, W)`` in little memory."""
    return predicted_classes(logits).to(torch.int16)


def compare_answers(task: Task, own: Tensor, others: Tensor) -> dict[str, float]:
    """Compare two answers of a network to the same images.

    Returns:
        ``agreement``, the share of images (of pixels) of the same class, and ``chance``, that of a guess: of one among
        all classes (of the commonest class for all pixels). ``mean_shift`` of the landmarks in pixels of the input.
        ``relative_shift`` of features: the root mean square of the shift, relative to that of the features.
    """
    if task == 'classification':
        same = predicted_classes(own) == predicted_classes(others)
        return {'agreement': share(same), 'chance': 1 / max(own.shape[1], 2)}
    if task == 'segmentation':
        commonest = own.flatten().long().bincount().max().item() / own.numel()
        return {'agreement': share(own == others), 'chance': commonest}
    if task == 'landmarks':
        return {'mean_shift': mean_distance(own, others)}
    shift = torch.linalg.vector_norm(own.double() - others.double()) / torch.linalg.vector_norm(own.double())
    return {'relative_shift': shift.item()}


def share(right: Tensor) -> float:
    """Return the share of true values."""
    return right.double().mean().item()


def mean_distance(points: Tensor, others: Tensor) -> float:
    """Return the mean distance of points ``(..., 2)``."""
    return torch.linalg.vector_norm(points.double() - others.double(), dim=-1).mean().item()
