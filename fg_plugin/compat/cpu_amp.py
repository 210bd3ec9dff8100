"""Mixed precision where there is no GPU.

mmengine 0.10.7 and onedl-mmengine 0.10.12 assert that ``AmpOptimWrapper`` runs on a GPU, because of its gradient
scaler. bfloat16 has the range of float32 and needs no scaler, and PyTorch's CPU autocast supports it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Trains under ``torch.autocast('cpu', dtype=torch.bfloat16)``; the arguments are those of ``OptimWrapper``."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward passes inside run in bfloat16 where autocast deems it safe."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


def enable_amp(cfg: Config) -> None:
    """Turn on mixed precision in ``cfg``: float16 with loss scaling on a GPU, bfloat16 on a CPU.

    Raises:
        ValueError: If the config's own optimizer wrapper would be lost.
    """
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    amp_kind = 'AmpOptimWrapper' if torch.cuda.is_available() else 'CPUAmpOptimWrapper'
    if kind not in ('OptimWrapper', amp_kind):
        raise ValueError(
            f"--amp should be used with optim_wrapper type 'OptimWrapper', but got {kind!r}; leave out --amp, or set "
            f"optim_wrapper.type='{amp_kind}' in the config"
        )
    cfg.optim_wrapper.type = amp_kind
    if amp_kind == 'AmpOptimWrapper':
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
