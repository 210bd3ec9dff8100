"""Train and test in the memory format in which convolutions are fastest."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep the model's 4D parameters in ``torch.channels_last``, which every convolution then passes on.

    On CPUs (oneDNN) it saves reordering every input into blocks of channels; on GPUs it is the format of the tensor
    cores. Results differ by rounding only, and those of dropout by what it drops.
    """

    def before_run(self, runner: Runner) -> None:
        """Convert the parameters in place, before the optimizer state is loaded."""
        runner.model._apply(_as_channels_last)
        # DistributedDataParallel has laid out its buckets of gradients for the format before, and would warn. Wrapped
        # once more, batch normalisations that MMEngine synchronised would be replaced again.
        if isinstance(runner.model, DistributedDataParallel) and not runner.cfg.get('sync_bn'):
            runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), runner.model.module)


def _as_channels_last(tensor: Tensor) -> Tensor:
    # nn.Module.to would ask it of those of 3D convolutions, too.
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
