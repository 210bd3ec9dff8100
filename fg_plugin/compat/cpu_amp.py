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

AMP_DTYPES = ('auto', 'float16', 'bfloat16')


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Trains under ``torch.autocast('cpu', dtype=torch.bfloat16)``; the arguments are those of ``OptimWrapper``."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward passes inside run in bfloat16 where autocast deems it safe."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


def enable_amp(cfg: Config, dtype: str = 'auto') -> None:
    """Turn on mixed precision in ``cfg``.

    Args:
        cfg: Config of the run.
        dtype: ``'float16'`` (with loss scaling; GPUs only), ``'bfloat16'``, or ``'auto'`` for float16 on a GPU and
            bfloat16 on a CPU.

    Raises:
        ValueError: For another ``dtype``, or if the config's own optimizer wrapper would be lost.
    """
    if dtype not in AMP_DTYPES:
        raise ValueError(f'dtype should be one of {", ".join(AMP_DTYPES)}, but got {dtype!r}')
    on_gpu = torch.cuda.is_available()
    if dtype == 'float16' and not on_gpu:
        raise ValueError(
            '--amp should be bfloat16 on a machine without CUDA devices, but got float16: its range needs the loss '
            'scaling that MMEngine does on GPUs only'
        )
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    amp_kind = 'AmpOptimWrapper' if on_gpu else 'CPUAmpOptimWrapper'
    if kind not in ('OptimWrapper', amp_kind):
        raise ValueError(
            f"--amp should be used with optim_wrapper type 'OptimWrapper', but got {kind!r}; leave out --amp, or set "
            f"optim_wrapper.type='{amp_kind}' in the config"
        )
    cfg.optim_wrapper.type = amp_kind
    if not on_gpu:
        return
    if dtype != 'auto':
        cfg.optim_wrapper.dtype = dtype
    if dtype == 'bfloat16':
        # It has the range of float32.
        cfg.optim_wrapper.loss_scale = {'enabled': False}
    else:
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
