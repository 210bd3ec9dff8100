"""Makes the random numbers of an epoch depend on its number only."""

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner, set_random_seed

# Any odd constant far above the number of epochs and processes keeps the streams of different runs apart.
_STRIDE = 1_000_003


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Reseeds Python, NumPy and PyTorch at the start of each training epoch from the run's seed, epoch and rank.

    MMEngine saves no random state, so a resumed run would repeat the augmentation and dropout of the first epoch.
    With this hook a run resumed at an epoch equals an uninterrupted one bit for bit. Iteration-based loops have no
    epochs and are left alone.

    The workers of the training's data loader follow. MMEngine seeds them as they start, with the same number in every
    epoch, and persistent ones go on in a state that no checkpoint holds: they start anew in every epoch here, whatever
    ``persistent_workers`` says. A ``worker_init_fn`` of the loader is called before its worker is seeded.
    """

    def before_train(self, runner: Runner) -> None:
        """Have the workers start, and be seeded, in each epoch."""
        loader = runner.train_dataloader
        if not isinstance(runner.train_loop, EpochBasedTrainLoop) or not getattr(loader, 'num_workers', 0):
            return
        if loader.persistent_workers:
            runner.logger.info(
                'persistent_workers=True is not used for training: the workers of the data loader start anew in each '
                'epoch, so that their random numbers depend on its number only'
            )
            # The loader itself refuses the change, which comes in time: no epoch has made its iterator yet.
            object.__setattr__(loader, 'persistent_workers', False)
        loader.worker_init_fn = partial(_start_worker, start=loader.worker_init_fn)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the epoch about to start."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            seed = (runner.seed + _STRIDE * (runner.epoch * runner.world_size + get_rank())) % 2**32
            set_random_seed(seed)


def _start_worker(worker_id: int, start: Callable[[int], None] | None) -> None:
    # The loader has drawn it after the epoch was seeded, another one for each worker.
    seed = torch.initial_seed() % 2**32
    if start is not None:
        start(worker_id)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
