"""The ways to compute a generated-filter convolution.

Convolution is linear in its filter, so ``x * (sum_j w_nj b_j) = sum_j w_nj (x * b_j)``: all paths give the same
output, and differ only in speed and memory.

Throughout, ``x`` is ``(B, C, H, W)``, the repository ``(M, C/groups, kh, kw)`` and the output ``(B, N, H', W')``.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from fg_plugin.layers.coefficients import Coefficients, FullCoefficients, LowRankCoefficients
from fg_plugin.layers.combining import combine, is_channels_last
from fg_plugin.layers.low_rank_update import LowRankUpdate, update_

PATHS = ('factored', 'materialised', 'unfolded')


class ConvArguments(NamedTuple):
    """The static arguments of a convolution, as ``F.conv2d`` takes them; ``padding`` is numeric."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def factored(x: Tensor, repository: Tensor, coefficients: Coefficients, conv: ConvArguments) -> Tensor:
    """Convolve the batch with the base filters, once, then combine the maps of each sample with its coefficients.

    With ``groups`` > 1 every base filter is applied to every group, because the repository is common to all groups.
    """
    groups = conv.groups
    if isinstance(coefficients, FullCoefficients):
        maps = _every_group(x, repository, conv)
        return _per_sample(combine(maps, _every_row(coefficients.weight, groups, maps)), groups)
    if groups == 1:
        combined = _project(x, repository, coefficients, conv)
    else:
        static = F.conv2d(x, coefficients.static_filters(repository), None, *conv)
        maps = _every_group(x, coefficients.update_filters(repository), conv)
        weight = _every_row(coefficients.left, groups, maps)
        static = static.unflatten(1, (groups, -1)).flatten(0, 1)
        combined = _per_sample(combine(maps, weight, static, overwrite=_may_overwrite()), groups)
    if coefficients.factors is None:
        return combined
    return combined * coefficients.factors.to(combined.dtype)[:, :, None, None]


def _project(x: Tensor, repository: Tensor, coefficients: LowRankCoefficients, conv: ConvArguments) -> Tensor:
    """Apply a low-rank head to the maps of the repository: ``V (b * x)`` costs less than ``(V b) * x``."""
    base, left, right = coefficients.base, coefficients.left, coefficients.right
    maps = F.conv2d(x, repository, None, *conv)
    if base is None and not is_transformed():
        if not is_channels_last(maps):
            maps = maps.contiguous()
        if not torch.is_grad_enabled():
            update_(maps, left, right)
            return maps
        geometry = (conv.stride, conv.padding, conv.dilation)
        return LowRankUpdate.apply(maps, x.detach(), repository.detach(), geometry, left, right)
    static = maps if base is None else F.conv2d(maps, base.to(maps.dtype)[:, :, None, None])
    projected = combine(maps, right.to(maps.dtype))
    return combine(projected, left.to(maps.dtype), static, overwrite=_may_overwrite())


def _may_overwrite() -> bool:
    # torch.jit checks a graph that it traced with gradients without them; torch.func.vmap overwrites no tensor that is
    # common to all entries.
    return not torch.is_grad_enabled() and not is_transformed()


def is_transformed() -> bool:
    """Return whether a graph is being made, or the call is transformed: both want plain operations.

    It is by ``torch.func``, and by forward-mode differentiation (``torch.autograd.forward_ad``).
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _every_group(x: Tensor, filters: Tensor, conv: ConvArguments) -> Tensor:
    """Apply all filters to each group, which becomes an entry of the batch."""
    grouped = x if conv.groups == 1 else x.unflatten(1, (conv.groups, -1)).flatten(0, 1)
    return F.conv2d(grouped, filters, None, *conv._replace(groups=1))


def _every_row(weight: Tensor, groups: int, maps: Tensor) -> Tensor:
    """Give each entry of a batch of groups the rows of ``weight`` (B, N, M) that belong to its filters."""
    return weight.to(maps.dtype).unflatten(1, (groups, -1)).flatten(0, 1)


def _per_sample(grouped: Tensor, groups: int) -> Tensor:
    return grouped if groups == 1 else grouped.unflatten(0, (-1, groups)).flatten(1, 2)


def materialised(x: Tensor, repository: Tensor, coefficients: Coefficients, conv: ConvArguments) -> Tensor:
    """Generate each sample's filters, then convolve all samples at once as ``B * groups`` groups of one convolution."""
    batch = x.shape[0]
    # Strides of a channels_last repository would make F.conv2d work, slowly, in that format with all B * C channels.
    filters = coefficients.filters(repository).flatten(0, 1).contiguous()
    out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), filters, None, *conv._replace(groups=batch * conv.groups))
    return out.reshape(batch, -1, *out.shape[2:])


def unfolded(x: Tensor, repository: Tensor, coefficients: Coefficients, conv: ConvArguments) -> Tensor:
    """Generate each sample's filters, then multiply them with the sample's patches, ``(N, L_k) @ (L_k, H' W')``.

    A 1x1 convolution needs no patches: the filters multiply the (strided) input itself.
    """
    groups = conv.groups
    kernel_size = repository.shape[2:]
    height, width = output_size(x.shape[2:], kernel_size, conv)
    filters = coefficients.filters(repository).flatten(2)
    if tuple(kernel_size) == (1, 1) and conv.padding == (0, 0):
        strided = x[:, :, :: conv.stride[0], :: conv.stride[1]]
        if groups == 1:
            return combine(strided, filters.to(x.dtype))
        patches = strided.flatten(2)
    else:
        patches = F.unfold(x, tuple(kernel_size), conv.dilation, conv.padding, conv.stride)
    filters = filters.to(patches.dtype)
    out = filters.unflatten(1, (groups, -1)) @ patches.unflatten(1, (groups, -1))
    return out.flatten(1, 2).unflatten(2, (height, width))


def shared(x: Tensor, repository: Tensor, coefficients: Coefficients, conv: ConvArguments) -> Tensor:
    """Convolve the whole batch with the filters of one sample: an ordinary convolution."""
    return F.conv2d(x, coefficients.filters(repository)[0].to(x.dtype), None, *conv)


def output_size(size: tuple[int, ...], kernel_size: tuple[int, ...], conv: ConvArguments) -> tuple[int, int]:
    """Return the height and width of a convolution's output."""
    height, width = (
        (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for length, kernel, stride, padding, dilation in zip(
            size, kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
        )
    )
    return height, width
