"""Makes the random numbers of an epoch depend on its number only."""

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
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the epoch about to start."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            seed = (runner.seed + _STRIDE * (runner.epoch * runner.world_size + get_rank())) % 2**32
            set_random_seed(seed)
