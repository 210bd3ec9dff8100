"""Random changes of the training images, anew in each epoch."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the images' size: 4 pixels of CIFAR-10's 32, as usual.
MAX_SHIFT = 1 / 8


def shifted_and_mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``MAX_SHIFT`` of its size, over zeros, and mirror every other one, at random.

    The library's transforms change all images of a batch alike, and are slow one by one.

    Args:
        images: ``(B, C, H, W)``.
        generator: Of the random numbers.
    """
    count, _, height, width = images.shape
    shift = int(MAX_SHIFT * min(height, width))
    top, left = torch.randint(2 * shift + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images, [shift] * 4)
    image = torch.arange(count).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[image, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()
