"""Several processes on a machine without CUDA.

mmengine 0.10.7 and onedl-mmengine 0.10.12 select a CUDA device before they create the process group, and name one to
``DistributedDataParallel``: ``torchrun`` without CUDA ends in an error twice. Both steps are skipped when the group
exists already and the config's model wrapper says ``device_ids=None``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.config import Config

_SYNC_BATCH_NORM = (
    'PyTorch synchronises batch normalisation over GPUs only. For several processes on CPUs, use nn.GroupNorm in the '
    "backbone and norm='group' in autoencoder and neck, or leave the batch normalisation unsynchronised: each process "
    'then normalises by its own part of the batch'
)


def prepare_launch(cfg: Config, launcher: str) -> None:
    """Set ``cfg.launcher`` and, where there is no CUDA, create the gloo group that the Runner would fail to create.

    Args:
        cfg: The config of the run; ``env_cfg.dist_cfg.timeout`` (seconds) is respected, its backend is kept for GPUs.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        ValueError: If ``launcher`` is ``'none'`` in one of several processes; if the launcher needs CUDA devices and
            there are none, or so does ``cfg.sync_bn``.
    """
    world_size = os.environ.get('WORLD_SIZE', '')
    if launcher == 'none' and world_size.isdigit() and int(world_size) > 1:
        raise ValueError(
            f"launcher should be 'pytorch' in the {world_size} processes of torchrun, but got 'none': each of them "
            'would do the whole work, in the same folder. Add --launcher pytorch (of another launcher: its name), or '
            'unset WORLD_SIZE where there is only one process'
        )
    cfg.launcher = launcher
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise ValueError(
            f"launcher should be 'pytorch' (torchrun) on a machine without CUDA devices, but got {launcher!r}: "
            'MMEngine assigns a CUDA device to each process of the other launchers'
        )
    if cfg.get('sync_bn'):
        raise ValueError(
            f'sync_bn should be left out on a machine without CUDA devices, but got {cfg.sync_bn!r}: {_SYNC_BATCH_NORM}'
        )
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    if not dist.is_initialized():
        _init_gloo(None if seconds is None else timedelta(seconds=seconds))
    wrapper = {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}


def _init_gloo(timeout: timedelta | None) -> None:
    store, rank, world_size = next(dist.rendezvous('env://'))
    # Restarted workers of torchrun find the store of the killed ones, with the addresses at which nobody listens now.
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    prefixed = dist.PrefixStore(f'attempt_{attempt}', store)
    dist.init_process_group('gloo', store=prefixed, rank=rank, world_size=world_size, timeout=timeout)


@contextmanager
def explained_sync_batch_norm() -> Iterator[None]:
    """Add the ways out where PyTorch refuses a model with ``nn.SyncBatchNorm``.

    Raises:
        ValueError: As PyTorch does.
    """
    try:
        yield
    except ValueError as error:
        if 'SyncBatchNorm' not in str(error):
            raise
        raise ValueError(f'{error}: {_SYNC_BATCH_NORM}') from error
