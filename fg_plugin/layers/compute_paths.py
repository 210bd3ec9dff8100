"""The ways to compute a generated-filter convolution, and the cost model that chooses one.

Convolution is linear in its filter, so ``x * (sum_j w_nj b_j) = sum_j w_nj (x * b_j)``: all paths give the same
output, and differ only in speed and memory.

Throughout, ``x`` is ``(B, C, H, W)``, the repository ``(M, C/groups, kh, kw)`` and the output ``(B, N, H', W')``.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fg_plugin.layers.coefficients import Coefficients, FullCoefficients

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
    batch, groups = x.shape[0], conv.groups
    per_group = conv._replace(groups=1)
    grouped = x if groups == 1 else x.reshape(batch * groups, -1, *x.shape[2:])
    if isinstance(coefficients, FullCoefficients):
        maps = F.conv2d(grouped, repository, None, *per_group)
        weight = coefficients.weight.to(maps.dtype)
        combined = _combine(maps, weight.reshape(batch * groups, -1, weight.shape[2]))
        return combined if groups == 1 else combined.reshape(batch, -1, *combined.shape[2:])
    static = F.conv2d(x, coefficients.static_filters(repository), None, *conv)
    maps = F.conv2d(grouped, coefficients.update_filters(repository), None, *per_group)
    weight = (coefficients.left * coefficients.scale.unsqueeze(1)).to(maps.dtype)
    weight = weight.reshape(batch * groups, -1, weight.shape[2])
    static = static if groups == 1 else static.reshape(batch * groups, -1, *static.shape[2:])
    combined = _combine(maps, weight, static)
    return combined if groups == 1 else combined.reshape(batch, -1, *combined.shape[2:])


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
    batch, groups = x.shape[0], conv.groups
    kernel_size = repository.shape[2:]
    height, width = output_size(x.shape[2:], kernel_size, conv)
    filters = coefficients.filters(repository).flatten(2)
    if tuple(kernel_size) == (1, 1) and conv.padding == (0, 0):
        strided = x[:, :, :: conv.stride[0], :: conv.stride[1]]
        if groups == 1:
            return _combine(strided, filters.to(x.dtype))
        patches = strided.flatten(2)
    else:
        patches = F.unfold(x, tuple(kernel_size), conv.dilation, conv.padding, conv.stride)
    filters = filters.to(patches.dtype)
    out = filters.unflatten(1, (groups, -1)) @ patches.unflatten(1, (groups, -1))
    return out.reshape(batch, -1, height, width)


def shared(x: Tensor, repository: Tensor, coefficients: Coefficients, conv: ConvArguments) -> Tensor:
    """Convolve the whole batch with the filters of one sample: an ordinary convolution."""
    return F.conv2d(x, coefficients.filters(repository)[0].to(x.dtype), None, *conv)


def _combine(maps: Tensor, weight: Tensor, static: Tensor | None = None) -> Tensor:
    """Combine maps ``(B, M, H, W)`` with coefficients ``(B, N, M)``, keeping the memory format of the maps.

    ``static`` ``(B, N, H, W)`` is added in the same pass over the output.
    """
    if maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous():
        rows, weight = maps.permute(0, 2, 3, 1).flatten(1, 2), weight.transpose(1, 2)
        if static is None:
            combined = rows @ weight
        else:
            combined = torch.baddbmm(static.permute(0, 2, 3, 1).flatten(1, 2), rows, weight)
        return combined.unflatten(1, maps.shape[2:]).permute(0, 3, 1, 2)
    columns = maps.flatten(2)
    combined = weight @ columns if static is None else torch.baddbmm(static.flatten(2), weight, columns)
    return combined.unflatten(2, maps.shape[2:])


def output_size(size: tuple[int, ...], kernel_size: tuple[int, ...], conv: ConvArguments) -> tuple[int, int]:
    """Return the height and width of a convolution's output."""
    height, width = (
        (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for length, kernel, stride, padding, dilation in zip(
            size, kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
        )
    )
    return height, width


class Workload(NamedTuple):
    """What a cost depends on.

    Attributes:
        batch: Batch size B.
        in_channels: Input channels C.
        out_channels: Generated filters N.
        num_base_filters: Base filters M.
        groups: Groups.
        kernel_area: kh * kw.
        out_pixels: H' * W'.
        rank: Rank of a low-rank head, None for a full one.
        in_pixels: H * W.
        training: Whether gradients are needed.
        channels_last: Whether the input is in channels_last format.
    """

    batch: int
    in_channels: int
    out_channels: int
    num_base_filters: int
    groups: int
    kernel_area: int
    out_pixels: int
    rank: int | None
    in_pixels: int
    training: bool
    channels_last: bool


class Operations(NamedTuple):
    """Amounts of the operations that a path consists of, or the price of one unit of each, in nanoseconds.

    Attributes:
        conv_calls: Convolutions.
        matmul_calls: (Batched) matrix products.
        conv: Multiplications of convolutions whose filters are common to the batch. Vectors hold 16 numbers, so that
            output channels count in multiples of 16.
        own_conv: The same where each sample has its own filters, as groups of one convolution.
        depthwise: Multiplications of convolutions with one channel a group.
        narrow: Multiplications for a convolution with a single input channel, counted where a group has fewer than 16:
            what such a convolution costs on top.
        matmul: Multiplications of matrix products.
        maps: Elements of the maps of base filters.
        out: Elements of the output, for each time it is written.
        filters: Elements of generated filters, for each time they are written.
        patches: Elements of unfolded patches.
        reordered: Elements of contiguous inputs, which a convolution reorders into blocks of channels first.
        copied: Elements of inputs and outputs that a path rearranges between memory formats.
    """

    conv_calls: float = 0
    matmul_calls: float = 0
    conv: float = 0
    own_conv: float = 0
    depthwise: float = 0
    narrow: float = 0
    matmul: float = 0
    maps: float = 0
    out: float = 0
    filters: float = 0
    patches: float = 0
    reordered: float = 0
    copied: float = 0


# Fitted to the ratios between the paths' times in the table of tools/benchmark.py (float32, torch 2.15 with oneDNN, one
# thread of an AVX-512 processor). Only ratios of prices matter for the choice. Training includes the backward.
INFERENCE_PRICES = Operations(
    conv_calls=34_000,
    matmul_calls=17_000,
    conv=0.021,
    own_conv=0.027,
    depthwise=0.094,
    narrow=0.013,
    matmul=0.024,
    maps=1.1,
    out=0.77,
    filters=0.35,
    patches=1.4,
    reordered=0.041,
    copied=0.46,
)
TRAINING_PRICES = Operations(
    conv_calls=260_000,
    matmul_calls=230_000,
    conv=0.057,
    own_conv=0.071,
    depthwise=0.62,
    narrow=0.16,
    matmul=0.069,
    maps=1.9,
    out=2.3,
    filters=1.3,
    patches=2.5,
    reordered=1.0,
    copied=0.81,
)


def path_costs(work: Workload) -> dict[str, float]:
    """Estimate the time of each path for a batch, in nanoseconds."""
    prices = TRAINING_PRICES if work.training else INFERENCE_PRICES
    operations = {
        'factored': _factored_operations(work),
        'materialised': _materialised_operations(work),
        'unfolded': _unfolded_operations(work),
    }
    return {
        path: sum(price * amount for price, amount in zip(prices, amounts, strict=True))
        for path, amounts in operations.items()
    }


@lru_cache(maxsize=4096)
def cheapest_path(work: Workload) -> str:
    """Return the name of the path that ``path_costs`` estimates to be the cheapest."""
    costs = path_costs(work)
    return min(costs, key=costs.__getitem__)


def _factored_operations(work: Workload) -> Operations:
    out = work.batch * work.out_channels * work.out_pixels
    reordered = 0 if work.channels_last else work.batch * work.in_channels * work.in_pixels
    if work.rank is None:
        base_filters = work.groups * _in_vectors(work.num_base_filters)
        return Operations(
            conv_calls=1,
            matmul_calls=1,
            conv=work.batch * work.out_pixels * base_filters * _filter_length(work),
            narrow=_narrow(work, base_filters),
            matmul=out * work.num_base_filters,
            maps=work.batch * work.groups * work.num_base_filters * work.out_pixels,
            out=out,
            reordered=reordered,
        )
    filters = work.groups * (_in_vectors(work.out_channels // work.groups) + _in_vectors(work.rank))
    return Operations(
        conv_calls=2,
        matmul_calls=2,
        conv=work.batch * work.out_pixels * filters * _filter_length(work),
        narrow=_narrow(work, filters),
        matmul=out * work.rank + work.rank * work.num_base_filters * _filter_length(work),
        maps=work.batch * work.groups * work.rank * work.out_pixels,
        out=2 * out,
        filters=work.out_channels * _filter_length(work),
        reordered=2 * reordered,
    )


def _materialised_operations(work: Workload) -> Operations:
    generation = _generation(work)
    out = work.batch * work.out_channels * work.out_pixels
    inputs = work.batch * work.in_channels * work.in_pixels
    operations = generation._replace(conv_calls=1, out=out)
    if work.batch > 1 and work.channels_last:
        # The samples' channels are put side by side, which needs the contiguous format, and the output is put back.
        operations = operations._replace(reordered=inputs, copied=inputs + out)
    elif not work.channels_last:
        operations = operations._replace(reordered=inputs)
    if work.groups == work.in_channels == work.out_channels and work.groups > 1:
        return operations._replace(depthwise=out * _filter_length(work), out=2 * out)
    filters = work.groups * _in_vectors(work.out_channels // work.groups)
    macs = work.batch * work.out_pixels * filters * _filter_length(work)
    operations = operations._replace(narrow=_narrow(work, filters))
    if work.batch * work.groups == 1 and not work.channels_last:
        return operations._replace(conv=macs)
    return operations._replace(own_conv=macs)


def _unfolded_operations(work: Workload) -> Operations:
    generation = _generation(work)
    out = work.batch * work.out_channels * work.out_pixels
    operations = generation._replace(
        matmul_calls=generation.matmul_calls + 1, matmul=generation.matmul + out * _filter_length(work), out=out
    )
    if work.kernel_area == 1:
        return operations
    copied = work.batch * work.in_channels * work.in_pixels + out if work.channels_last else 0
    patches = work.batch * work.groups * _filter_length(work) * work.out_pixels
    return operations._replace(patches=patches, copied=copied)


def _generation(work: Workload) -> Operations:
    filters = work.batch * work.out_channels * _filter_length(work)
    if work.rank is None:
        return Operations(matmul_calls=1, matmul=filters * work.num_base_filters, filters=filters)
    update_filters = work.rank * work.num_base_filters * _filter_length(work)
    # The update is written first, its sum with the static filters after that.
    return Operations(matmul_calls=2, matmul=filters * work.rank + update_filters, filters=2 * filters)


def _filter_length(work: Workload) -> int:
    return work.in_channels // work.groups * work.kernel_area


def _narrow(work: Workload, filters: int) -> int:
    channels = work.in_channels // work.groups
    return work.batch * work.out_pixels * work.kernel_area * filters if channels < 16 else 0


def _in_vectors(channels: int) -> int:
    return -(-channels // 16) * 16
