"""Landmarks to heatmap losses, and heatmaps back to landmarks with sub-pixel precision.

Coordinates are (x, y) in pixels with the centre of the top-left pixel at (0, 0); heatmaps have the image's size.
"""

import math

import torch
import torch.nn.functional as F
from mmengine.registry import TASK_UTILS
from torch import Tensor


def bilinear_neighbours(landmarks: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Spreads points bilinearly over their four neighbouring pixels.

    The expectation of the pixel positions under the weights is the point itself, which is what makes a
    classification over pixels sub-pixel.

    Args:
        landmarks: ``(B, K, 2)`` points (x, y); they are moved to the border where they lie outside.
        height: Heatmap height in pixels.
        width: Heatmap width in pixels.

    Returns:
        Flat pixel positions ``(B, K, 4)`` and weights ``(B, K, 4)`` that sum to one.
    """
    limits = landmarks.new_tensor([width - 1, height - 1])
    points = landmarks.clamp(min=0).minimum(limits)
    low = points.floor()
    x_fraction, y_fraction = (points - low).unbind(-1)
    x_low, y_low = low.long().unbind(-1)
    # On the last row or column the fraction is zero, so that the clamped neighbour gets no weight.
    x_high, y_high = (x_low + 1).clamp(max=width - 1), (y_low + 1).clamp(max=height - 1)
    positions = torch.stack(
        (y_low * width + x_low, y_low * width + x_high, y_high * width + x_low, y_high * width + x_high), dim=-1
    )
    weights = torch.stack(
        (
            (1 - y_fraction) * (1 - x_fraction),
            (1 - y_fraction) * x_fraction,
            y_fraction * (1 - x_fraction),
            y_fraction * x_fraction,
        ),
        dim=-1,
    )
    return positions, weights


def inside_image(landmarks: Tensor, height: int, width: int) -> Tensor:
    """Which points ``(B, K, 2)`` fall on a pixel of the heatmap: ``(B, K)`` booleans."""
    x, y = landmarks.unbind(-1)
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def local_window(heatmaps: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts a square window around the maximum of every heatmap.

    Args:
        heatmaps: ``(B, K, H, W)``.
        radius: The window has ``2 * radius + 1`` pixels a side.

    Returns:
        The values ``(B, K, n)`` (``-inf`` outside the image) and their x and y positions ``(B, K, n)`` as float.
    """
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.flatten(-2)
    peak = flat.argmax(dim=-1, keepdim=True)
    steps = torch.arange(-radius, radius + 1, device=heatmaps.device)
    y = peak.div(width, rounding_mode='floor') + steps.repeat_interleave(2 * radius + 1)
    x = peak % width + steps.repeat(2 * radius + 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    values = flat.gather(-1, y.clamp(0, height - 1) * width + x.clamp(0, width - 1))
    return values.masked_fill(~inside, -torch.inf), x.to(heatmaps.dtype), y.to(heatmaps.dtype)


def masked_mean(losses: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``losses`` where ``mask`` holds; zero, with a gradient path, where it holds nowhere."""
    return losses.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def _without(landmarks: Tensor, unknown: Tensor) -> Tensor:
    """Return ``landmarks`` with zeros for those that do not count: a NaN would reach the gradient through a mask."""
    return landmarks.float().masked_fill(unknown.unsqueeze(-1), 0)


@TASK_UTILS.register_module()
class SoftmaxHeatmapCodec:
    """One classification over all pixels for each landmark.

    The loss is the negative log likelihood of eq. (3) with a softmax over the positions of the landmark's map. The
    target is spread bilinearly over the four pixels around the landmark. Landmarks outside the image do not count.

    Args:
        radius: Half size of the window around the maximum whose expectation is the decoded position.
    """

    def __init__(self, radius: int = 2) -> None:
        if radius < 1:
            raise ValueError(f'radius should be at least 1, for sub-pixel decoding, but got {radius}')
        self.radius = radius

    def loss(self, heatmaps: Tensor, landmarks: Tensor) -> Tensor:
        """Mean negative log likelihood.

        Args:
            heatmaps: Logits ``(B, K, H, W)``.
            landmarks: ``(B, K, 2)`` points (x, y) in pixels.
        """
        height, width = heatmaps.shape[-2:]
        logits = heatmaps.float().flatten(-2)
        inside = inside_image(landmarks, height, width)
        positions, weights = bilinear_neighbours(_without(landmarks, ~inside), height, width)
        likelihood = (logits.gather(-1, positions) * weights).sum(-1) - logits.logsumexp(-1)
        return masked_mean(-likelihood, inside)

    def decode(self, heatmaps: Tensor) -> Tensor:
        """Expected position in a window around the maximum: logits ``(B, K, H, W)`` to points ``(B, K, 2)``."""
        values, x, y = local_window(heatmaps.float(), self.radius)
        weights = values.softmax(-1)
        return torch.stack(((weights * x).sum(-1), (weights * y).sum(-1)), dim=-1)


@TASK_UTILS.register_module()
class GaussianHeatmapCodec:
    """Regression of a Gaussian bump for each landmark, with the mean squared error.

    Args:
        sigma: Standard deviation of the bump in pixels.
        scale: Factor on the loss. The bump covers few pixels, so that the plain mean over all of them is tiny.
    """

    def __init__(self, sigma: float = 1.5, scale: float = 100.0) -> None:
        if sigma <= 0:
            raise ValueError(f'sigma should be positive, but got {sigma}')
        self.sigma = sigma
        self.scale = scale
        # The centroid of a cut bump is pulled towards the window's centre: keep practically all of it.
        self.radius = math.ceil(3 * sigma)

    def encode(self, landmarks: Tensor, height: int, width: int) -> Tensor:
        """Points ``(B, K, 2)`` to bumps ``(B, K, height, width)`` of height one."""

        def profile(centres: Tensor, length: int) -> Tensor:
            pixels = torch.arange(length, device=centres.device, dtype=centres.dtype)
            return torch.exp(-((pixels - centres.unsqueeze(-1)) ** 2) / (2 * self.sigma**2))

        x, y = landmarks.unbind(-1)
        return profile(y, height).unsqueeze(-1) * profile(x, width).unsqueeze(-2)

    def loss(self, heatmaps: Tensor, landmarks: Tensor) -> Tensor:
        """Scaled mean squared error of heatmaps ``(B, K, H, W)`` against the bumps of ``(B, K, 2)`` landmarks."""
        height, width = heatmaps.shape[-2:]
        inside = inside_image(landmarks, height, width)
        targets = self.encode(_without(landmarks, ~inside), height, width)
        errors = F.mse_loss(heatmaps.float(), targets, reduction='none').mean((-2, -1))
        return self.scale * masked_mean(errors, inside)

    def decode(self, heatmaps: Tensor) -> Tensor:
        """Centroid of a window around the maximum: heatmaps ``(B, K, H, W)`` to points ``(B, K, 2)``.

        Exact up to 0.02 pixels on a clean bump that the border does not cut.
        """
        values, x, y = local_window(heatmaps.float(), self.radius)
        weights = values.clamp(min=torch.finfo(values.dtype).tiny)
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.stack(((weights * x).sum(-1), (weights * y).sum(-1)), dim=-1)
