"""Stops a run whose loss is no longer a number."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


class NonFiniteLossError(RuntimeError):
    """A loss or a weight became infinite or not a number."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops the run at the first step whose loss is not finite, and never lets such weights into a checkpoint.

    The step that made the loss non-finite has updated the weights already, so the way back is the last checkpoint. A
    finite loss whose gradient overflowed shows in the weights, which are checked before every save.

    Raises:
        NonFiniteLossError: Names the step, the loss terms and the last good checkpoint.
    """

    # Before the loggers and the checkpoint.
    priority = 'HIGH'

    def before_train(self, runner: Runner) -> None:
        """Remember which checkpoint of the work directory belongs to an earlier run."""
        self._stale = None if runner.iter else _last_checkpoint(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the loss terms of this step."""
        losses = {name: torch.as_tensor(value).item() for name, value in (outputs or {}).items() if 'loss' in name}
        if all(math.isfinite(value) for value in losses.values()):
            return
        terms = ', '.join(f'{name}={value:g}' for name, value in losses.items())
        raise NonFiniteLossError(
            f'the loss should be finite, but at step {runner.iter + 1} (epoch {runner.epoch + 1}, iteration '
            f'{batch_idx + 1} of it) got {terms}. {self._way_out(runner)}'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights that are about to be saved."""
        broken = list(_non_finite(checkpoint['state_dict'].items()))
        if broken:
            raise NonFiniteLossError(
                f'the weights should be finite, but after step {runner.iter} {len(broken)} of '
                f'{len(checkpoint["state_dict"])} are not, first {broken[0]!r}; they are not saved. '
                f'{self._way_out(runner)}'
            )

    def _way_out(self, runner: Runner) -> str:
        advice = 'lower the learning rate or clip the gradient (optim_wrapper.clip_grad)'
        last = _last_checkpoint(runner)
        if last is None or last == self._stale:
            return f'No checkpoint was saved yet; {advice}'
        name, _ = last
        # A resumed run has the learning rate of its checkpoint.
        return (
            f'The last good checkpoint is {name}: clip the gradient (optim_wrapper.clip_grad) and continue with '
            f'--resume {name}, or lower the learning rate and start a new training from its weights with --cfg-options '
            f'load_from={name}'
        )


def _last_checkpoint(runner: Runner) -> tuple[str, int] | None:
    """Name and time of the checkpoint that was completely written last."""
    pointer = Path(runner.work_dir, 'last_checkpoint')
    return (pointer.read_text(), pointer.stat().st_mtime_ns) if pointer.is_file() else None


def _non_finite(tensors: Iterable[tuple[str, Any]]) -> Iterator[str]:
    for name, tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
            yield name
