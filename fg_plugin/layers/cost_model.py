"""The cost model that chooses how to compute a generated-filter convolution."""

from functools import lru_cache
from typing import NamedTuple


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
        rank: Rank of a low-rank head, None for a full one. Such a head has static coefficients of its own (and not the
            identity) exactly if M differs from N.
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


# The settings of tools/benchmark.py in which the prices, timed twice, choose a path more than 10 % slower than the best
# one, and that best one: convolutions of few channels and small 1x1 ones, for which oneDNN changes its kernels. More
# prices would only fit them at the cost of others. The fields are those of Workload, in their order.
MEASURED_PATHS = {
    Workload(16, 64, 64, 64, 1, 9, 3136, None, 3136, True, False): 'materialised',
    Workload(16, 64, 64, 64, 1, 9, 3136, 8, 3136, True, False): 'materialised',
    Workload(16, 64, 32, 32, 1, 9, 4096, 8, 4096, True, False): 'materialised',
    Workload(16, 3, 64, 64, 1, 49, 12544, None, 50176, True, False): 'factored',
    Workload(16, 3, 64, 64, 1, 49, 12544, None, 50176, True, True): 'factored',
    Workload(16, 3, 64, 64, 1, 49, 12544, 8, 50176, True, False): 'factored',
    Workload(16, 3, 64, 64, 1, 49, 12544, 8, 50176, True, True): 'factored',
    Workload(16, 3, 64, 64, 1, 49, 12544, 8, 50176, False, False): 'factored',
    Workload(1, 256, 64, 64, 1, 1, 784, 8, 784, True, True): 'unfolded',
    Workload(16, 256, 64, 64, 1, 1, 784, 8, 784, True, True): 'unfolded',
    Workload(1, 128, 512, 512, 1, 1, 196, 8, 196, True, True): 'materialised',
    Workload(1, 512, 128, 128, 1, 1, 196, 8, 196, True, True): 'materialised',
    Workload(1, 144, 24, 6, 1, 1, 784, None, 784, False, False): 'factored',
    Workload(1, 144, 24, 6, 1, 1, 784, None, 784, True, False): 'factored',
    Workload(16, 144, 24, 6, 1, 1, 784, None, 784, False, False): 'unfolded',
    Workload(16, 144, 24, 24, 1, 1, 784, None, 784, True, True): 'factored',
    Workload(1, 3, 64, 64, 1, 9, 1024, None, 1024, True, False): 'materialised',
    Workload(1, 3, 64, 64, 1, 9, 1024, 8, 1024, True, False): 'materialised',
    Workload(1, 3, 64, 16, 1, 9, 1024, None, 1024, False, True): 'materialised',
    Workload(1, 3, 32, 8, 1, 9, 4096, None, 4096, False, True): 'materialised',
    Workload(1, 3, 32, 8, 1, 9, 4096, None, 4096, True, True): 'materialised',
    Workload(16, 3, 32, 32, 1, 9, 4096, None, 4096, True, True): 'unfolded',
    Workload(16, 3, 32, 32, 1, 9, 4096, 8, 4096, True, True): 'unfolded',
}

# Elements (64 KiB in float32) that a path may keep for the backward whatever the size of its input and output. More
# would add up in networks of many layers and small maps, such as efficientvit_m0.
LITTLE_MEMORY = 2**14


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
    """Return the name of the path that is the cheapest by ``MEASURED_PATHS``, or else by ``path_costs``.

    In training, a path that would keep more for the backward than the convolution's own input and output is left out,
    unless that is little.
    """
    if work in MEASURED_PATHS:
        return MEASURED_PATHS[work]
    costs = path_costs(work)
    if work.training:
        kept = kept_elements(work)
        own = work.batch * (work.in_channels * work.in_pixels + work.out_channels * work.out_pixels)
        lean = {path: cost for path, cost in costs.items() if kept[path] <= max(own, LITTLE_MEMORY)}
        costs = lean or {min(kept, key=kept.__getitem__): 0.0}
    return min(costs, key=costs.__getitem__)


def kept_elements(work: Workload) -> dict[str, int]:
    """Return how many elements each path keeps for the backward that an ordinary convolution does not."""
    filters = work.batch * work.out_channels * _filter_length(work)
    patches = 0 if work.kernel_area == 1 else work.batch * work.groups * _filter_length(work) * work.out_pixels
    maps_per_group = work.num_base_filters if work.rank is None else work.rank
    maps = work.batch * work.groups * maps_per_group * work.out_pixels
    if work.rank is not None and work.groups == 1:
        of_base_filters = work.batch * work.num_base_filters * work.out_pixels
        repository = work.num_base_filters * _filter_length(work)
        # See LowRankUpdate.
        has_base = work.num_base_filters != work.out_channels
        maps += of_base_filters if has_base or of_base_filters <= repository else 0
    return {'factored': maps, 'materialised': filters, 'unfolded': filters + patches}


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
    has_base = work.num_base_filters != work.out_channels
    if work.groups == 1:
        base_filters = _in_vectors(work.num_base_filters)
        maps = work.batch * work.num_base_filters * work.out_pixels
        # Without static coefficients, the base filters' maps are the output, to which the update is added in place.
        return Operations(
            conv_calls=2 if has_base else 1,
            matmul_calls=2,
            conv=work.batch * work.out_pixels * base_filters * (_filter_length(work) + has_base * work.out_channels),
            narrow=_narrow(work, base_filters),
            matmul=(maps + out) * work.rank,
            maps=has_base * maps + work.batch * work.rank * work.out_pixels,
            out=2 * out,
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
    elif work.channels_last:
        operations = operations._replace(copied=out)
    else:
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
    # The update is written first, its sum with the static filters after that: an operation whose call costs as much.
    return Operations(matmul_calls=3, matmul=filters * work.rank + update_filters, filters=2 * filters)


def _filter_length(work: Workload) -> int:
    return work.in_channels // work.groups * work.kernel_area


def _narrow(work: Workload, filters: int) -> int:
    channels = work.in_channels // work.groups
    return work.batch * work.out_pixels * work.kernel_area * filters if channels < 16 else 0


def _in_vectors(channels: int) -> int:
    return -(-channels // 16) * 16
