"""Known variations of images: the paper's argument is that generated filters adapt to them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional


class Varied(NamedTuple):
    """Images after a variation.

    Attributes:
        pixels: ``(N, C, H, W)`` in [0, 1].
        kinds: Positions ``(n,)`` of the images of each kind, by its name; empty for a variation of one kind.
    """

    pixels: Tensor
    kinds: dict[str, Tensor]


Variation = Callable[[Tensor, torch.Generator, bool], Varied]

CORRUPTIONS = ('noise', 'blur', 'contrast')

_BLUR_STEPS = 8


def rotated(images: Tensor, generator: torch.Generator, unseen: bool) -> Varied:
    """Rotate each image by an angle of its own, uniform in [-45, 45] degrees (section 4.2); unseen: 45 to 90.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        generator: Of the angles.
        unseen: Take angles that no training image has.
    """
    if unseen:
        angles = (45 + 45 * _uniform(images, generator)) * _sign(images, generator)
    else:
        angles = 90 * _uniform(images, generator) - 45
    radians = torch.deg2rad(angles)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    ratio = images.shape[2] / images.shape[3]
    matrices = torch.stack([cos, sin * ratio, zero, -sin / ratio, cos, zero], 1).view(-1, 2, 3)
    grids = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return Varied(F.grid_sample(images, grids, align_corners=False), {})


def corrupted(images: Tensor, generator: torch.Generator, unseen: bool) -> Varied:
    """Apply noise, blur or a loss of contrast to each image, of a strength of its own; unseen: stronger.

    Standard deviations are uniform in [0, 0.3] of white and [0, 1.5] pixels, contrasts in [0.3, 1]; unseen, 0.3 to 0.6,
    1.5 to 3 and 0.15 to 0.3. Those of blur are rounded to eighths of 1.5, so that a sixteenth of the unseen blurred
    images is blurred no more than the strongest in training.
    """
    kinds = torch.randint(len(CORRUPTIONS), (len(images),), generator=generator)
    strength = _uniform(images, generator) + (1 if unseen else 0)
    images = images.clone()
    noisy, blurred, faded = (kinds == kind for kind in range(len(CORRUPTIONS)))
    noise = torch.randn(images.shape, generator=generator)
    images[noisy] += 0.3 * strength[noisy].view(-1, 1, 1, 1) * noise[noisy]
    # The library blurs a batch by one width.
    steps = (strength * _BLUR_STEPS).round()
    for step in steps[blurred].unique().tolist():
        chosen = blurred & (steps == step)
        sigma = 1.5 * step / _BLUR_STEPS
        if sigma:
            images[chosen] = functional.gaussian_blur(images[chosen], [2 * round(3 * sigma) + 1] * 2, [sigma] * 2)
    contrast = 0.15 + 0.15 * _uniform(images, generator) if unseen else 1 - 0.7 * strength
    means = images.mean((1, 2, 3), keepdim=True)
    factors = contrast.view(-1, 1, 1, 1)
    images[faded] = (means + (images - means) * factors)[faded]
    positions = {name: (kinds == kind).nonzero().flatten() for kind, name in enumerate(CORRUPTIONS)}
    return Varied(images.clamp(0, 1), positions)


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(images), generator=generator)


def _sign(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (len(images),), generator=generator) * 2 - 1


VARIATIONS: dict[str, Variation] = {'rotated': rotated, 'corrupted': corrupted}
