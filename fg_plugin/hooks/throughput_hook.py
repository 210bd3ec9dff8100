"""Images per second of the data loader and of the training step, side by side."""

from collections import deque
from time import perf_counter
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Logs ``data_img_per_s`` and ``train_img_per_s`` over the last iterations, summed over all processes.

    The first is the rate at which the loader alone hands out images while the training waits, the second the rate of
    the training step with its hooks. Loading is no bottleneck while the first is well above the second.

    Args:
        window: Number of iterations that a rate is taken over.

    Raises:
        ValueError: If ``window`` is less than 1.
    """

    # After all other hooks, so that logging and saving count as part of the step and not of loading.
    priority = 'LOWEST'

    def __init__(self, window: int = 20) -> None:
        if window < 1:
            raise ValueError(f'window should be at least 1 iteration, but got {window}')
        self._iterations: deque[tuple[int, float, float]] = deque(maxlen=window)
        self._last_end = 0.0
        self._start = 0.0

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave validation and saving between epochs out of the rates."""
        self._last_end = perf_counter()

    def after_val(self, runner: Runner) -> None:
        """Leave the validations of an iteration-based loop out, too: its training has one epoch only."""
        self._last_end = perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Publish the rates of the iterations so far."""
        self._start = perf_counter()
        if not self._iterations:
            return
        images, loading, training = (sum(column) for column in zip(*self._iterations, strict=True))
        images *= runner.world_size
        runner.message_hub.update_scalar('train/data_img_per_s', images / max(loading, 1e-9))
        runner.message_hub.update_scalar('train/train_img_per_s', images / max(training, 1e-9))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Take the times of this iteration."""
        end = perf_counter()
        self._iterations.append((_batch_size(data_batch), self._start - self._last_end, end - self._start))
        self._last_end = end


def _batch_size(data_batch: Any) -> int:
    return len(data_batch['inputs']) if isinstance(data_batch, dict) else len(data_batch[0])
