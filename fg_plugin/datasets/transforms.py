"""Random changes to whole batches, each sample with its own draw."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import TRANSFORMS
from torch import Tensor

from fg_plugin.datasets.in_memory import Batch


@TRANSFORMS.register_module()
class BatchRandomFlip:
    """Mirror each image of a batch left to right with probability ``prob``.

    Args:
        prob: Probability, in [0, 1].
        swap_pairs: Pairs of landmarks that change places in a mirror, such as ``[(0, 1), (3, 4)]`` for MTFL. Needed
            for batches with landmarks: without it, a mirrored left eye would be called left although it is the right.

    Raises:
        ValueError: If ``prob`` is out of range, or a batch has landmarks and ``swap_pairs`` is not given.
    """

    def __init__(self, prob: float = 0.5, swap_pairs: Sequence[tuple[int, int]] | None = None) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob should be in [0, 1], but got {prob}')
        self.prob = prob
        self.swap_pairs = swap_pairs

    def __call__(self, batch: Batch) -> Batch:
        images = batch['inputs']
        flip = torch.rand(len(images)) < self.prob
        flipped = {**batch, 'inputs': torch.where(flip[:, None, None, None], images.flip(-1), images)}
        landmarks = batch['data_samples'].get('landmarks')
        if landmarks is not None:
            mirrored = self._mirror(landmarks, images.shape[-1])
            landmarks = torch.where(flip[:, None, None], mirrored, landmarks)
            flipped['data_samples'] = {**batch['data_samples'], 'landmarks': landmarks}
        return flipped

    def _mirror(self, landmarks: Tensor, width: int) -> Tensor:
        if self.swap_pairs is None:
            raise ValueError(
                'BatchRandomFlip got a batch with landmarks but no swap_pairs: give the pairs that change places in a '
                'mirror, such as swap_pairs=[(0, 1), (3, 4)] for LE RE NT LMC RMC'
            )
        order = list(range(landmarks.shape[1]))
        for left, right in self.swap_pairs:
            order[left], order[right] = order[right], order[left]
        mirrored = landmarks[:, order].clone()
        mirrored[..., 0] = width - 1 - mirrored[..., 0]
        return mirrored


@TRANSFORMS.register_module()
class BatchRandomCrop:
    """Pad each image with zeros on all sides and crop it back to its size at a random place.

    Landmarks move with their image.

    Args:
        padding: Pixels on each side; an image moves by at most this much.

    Raises:
        ValueError: If ``padding`` is below 1, or a landmark that was inside its image is moved out of it.
    """

    def __init__(self, padding: int = 4) -> None:
        if padding < 1:
            raise ValueError(f'padding should be at least 1, but got {padding}')
        self.padding = padding

    def __call__(self, batch: Batch) -> Batch:
        images = batch['inputs']
        offsets = torch.randint(0, 2 * self.padding + 1, (2, len(images)))
        cropped = {**batch, 'inputs': crop_padded(images, self.padding, offsets)}
        landmarks = batch['data_samples'].get('landmarks')
        if landmarks is not None:
            moved = landmarks + (self.padding - offsets.flip(0).T.unsqueeze(1)).to(landmarks.dtype)
            limits = moved.new_tensor([images.shape[-1] - 1, images.shape[-2] - 1])
            was_inside, is_inside = (((points >= 0) & (points <= limits)).all(-1) for points in (landmarks, moved))
            if (was_inside & ~is_inside).any():
                raise ValueError(
                    f'BatchRandomCrop(padding={self.padding}) moved a landmark out of its image; use a smaller padding'
                )
            cropped['data_samples'] = {**batch['data_samples'], 'landmarks': moved}
        return cropped


def crop_padded(images: Tensor, padding: int, offsets: Tensor) -> Tensor:
    """Crop each zero-padded image at its own place, all in one gather.

    Args:
        images: Shape ``(B, C, H, W)``.
        padding: Zeros on each side.
        offsets: Shape ``(2, B)``: top and left of each crop in the padded image, in ``[0, 2 * padding]``.
    """
    height, width = images.shape[-2:]
    # Every possible crop as a view (B, C, top, left, H, W); indexing copies the chosen ones only.
    crops = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    top, left = offsets
    return crops[torch.arange(len(images)), :, top, left]
