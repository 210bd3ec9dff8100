"""Counts the multiplications of a network without running it."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fg_plugin.conv_trace import fake_evaluation


class Macs(NamedTuple):
    """Multiply-accumulate operations of convolutions and matrix products, for one image at inference.

    Attributes:
        total: Of the whole network.
        modules: Of each module that was asked for, over all its calls; 0 if it does not run.
    """

    total: int
    modules: dict[nn.Module, int]


def count_macs(model: nn.Module, input_size: tuple[int, int, int], modules: list[nn.Module]) -> Macs:
    """Count the MACs of ``model`` for one image of ``input_size`` (C, H, W), and of ``modules`` inside it.

    The network runs on fake tensors: it is left as it is, and nothing is computed.
    """
    counter = FlopCounterMode(display=False)
    flops = dict.fromkeys(modules, 0)

    def enter(module: nn.Module, args: tuple) -> None:
        flops[module] -= counter.get_total_flops()

    def leave(module: nn.Module, args: tuple, out: object) -> None:
        flops[module] += counter.get_total_flops()

    parameter = next(model.parameters())
    with fake_evaluation(model), counter:
        for module in flops:
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        model(torch.zeros(1, *input_size, dtype=parameter.dtype, device=parameter.device))
    # A multiplication and its addition count as two operations.
    return Macs(counter.get_total_flops() // 2, {module: count // 2 for module, count in flops.items()})
