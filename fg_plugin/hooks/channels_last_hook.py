"""Train and test in the memory format in which convolutions are fastest."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep the model's 4D parameters in ``torch.channels_last``, which every convolution then passes on.

    On CPUs (oneDNN) it saves reordering every input into blocks of channels; on GPUs
    it is the format of the tensor cores. Results differ by rounding only.
    """

    def before_run(self, runner: Runner) -> None:
        """Convert the parameters in place, before the optimizer state is loaded."""
        runner.model._apply(_as_channels_last)


def _as_channels_last(tensor: Tensor) -> Tensor:
    # nn.Module.to would ask it of those of 3D convolutions, too.
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
