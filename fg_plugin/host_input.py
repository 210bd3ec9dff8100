"""What a network takes: the size of its inputs, and their normalisation."""

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from timm.models import get_model_input_config
from torch import Tensor, nn

ChannelValues: TypeAlias = Sequence[float] | Tensor | np.ndarray
"""One number per channel. A tensor or array may have further dimensions of size 1."""


class HostInput(NamedTuple):
    """What a network takes.

    Attributes:
        size: ``(C, H, W)`` of one input.
        mean: Per channel, for pixels in [0, 1].
        std: Per channel.
    """

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def host_input(
    model: nn.Module,
    input_size: Sequence[int] | None = None,
    mean: ChannelValues | None = None,
    std: ChannelValues | None = None,
) -> HostInput:
    """Return what ``model`` takes: as given, or else as a timm model's configuration says.

    The statistics of a configuration are averaged where ``model`` takes another number of channels: timm keeps those of
    RGB for models of other ``in_chans``.

    Raises:
        ValueError: If only one of ``mean`` and ``std`` is given, or none for a network that does not tell itself; if
            they are not one finite number per channel, or ``std`` is not positive; if ``input_size`` is not (C, H, W).
    """
    cfg = getattr(model, 'pretrained_cfg', None) or {}
    if (mean is None) != (std is None):
        raise ValueError(f'mean and std should be given together, but got mean={mean} and std={std}.')
    size = _check_size(get_model_input_config(model)['input_size'] if input_size is None else input_size)
    if mean is not None and std is not None:
        checked = HostInput(size, _check_values('mean', mean, size), _check_values('std', std, size))
        if min(checked.std) <= 0:
            raise ValueError(f'std should be > 0, but got {std}.')
        return checked
    if not ('mean' in cfg and 'std' in cfg):
        raise ValueError(
            f'mean and std should be given for {type(model).__name__}, which has no pretrained_cfg: the encoder sees '
            f'pixels in [0, 1]. For inputs in [0, 1] they are mean=(0, 0, 0) and std=(1, 1, 1), for inputs normalised '
            f'with the statistics of ImageNet (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).'
        )
    return HostInput(size, fit_channels(cfg['mean'], size[0]), fit_channels(cfg['std'], size[0]))


def fit_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return ``values`` per channel for ``channels`` of them: the same ones, or their average for another number."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def _check_values(name: str, values: ChannelValues, size: tuple[int, int, int]) -> tuple[float, ...]:
    try:
        numbers = [float(value) for value in (values if isinstance(values, Sequence) else values.flatten())]
    except (AttributeError, TypeError, ValueError):
        numbers = []
    if len(numbers) != size[0] or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f'{name} should hold a number for each of the channels of inputs {size} (C, H, W), but got {values}.'
        )
    if max(numbers) > 1:
        raise ValueError(f'{name} should be for pixels in [0, 1] (divide values for 0-255 by 255), but got {values}.')
    return tuple(numbers)


def _check_size(size: Sequence[int]) -> tuple[int, int, int]:
    try:
        channels, height, width = map(operator.index, size)
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        hint = f' For RGB images of that side, it is (3, {size}, {size}).' if isinstance(size, int) else ''
        raise ValueError(f'input_size should be (C, H, W) of one input, three integers >= 1, but got {size!r}.{hint}')
    return channels, height, width
