"""Which other image each image takes its filters from (section 4.4.2)."""

import torch
from torch import Tensor


def other_images(count: int, seed: int) -> Tensor:
    """For each of ``count`` images, the index of a uniformly random other one: ``(count,)``.

    Raises:
        ValueError: If there is no other image.
    """
    if count < 2:
        raise ValueError(f'swapping filters needs at least 2 images in the data set, but got {count}')
    generator = torch.Generator().manual_seed(seed)
    return (torch.arange(count) + torch.randint(1, count, (count,), generator=generator)) % count
