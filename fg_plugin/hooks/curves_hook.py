"""Curves of a run, kept beside its checkpoints."""

import json
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from fg_plugin.atomic_write import write_text_atomically
from fg_plugin.visualization.curves import draw_curves
from fg_plugin.visualization.figures import save_figure


@HOOKS.register_module()
class CurvesHook(Hook):
    """Keeps loss terms and metrics in ``curves.json`` and draws ``curves.png`` when the training ends.

    A resumed run continues the curves of its work directory from its checkpoint, at which a point ends. A metric of
    several values, such as one for each class, is no curve and is left out.

    Args:
        interval: Iterations that one point of a training curve is the mean of.

    Raises:
        ValueError: If ``interval`` is not positive.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval should be at least 1 iteration, but got {interval}')
        self.interval = interval
        self._training = False
        self._rows: dict[str, list[dict[str, float]]] = {'train': [], 'val': []}
        self._sums: dict[str, Tensor | float] = {}
        self._count = 0

    def before_train(self, runner: Runner) -> None:
        """Starts empty, or from what a resumed run left."""
        self._training = True
        self._rows = {'train': [], 'val': []}
        path = Path(runner.work_dir) / 'curves.json'
        if runner.iter > 0 and path.is_file():
            try:
                kept = json.loads(path.read_text())
            except ValueError as error:
                raise ValueError(
                    f'{path} should hold the curves of the run that is resumed, but is damaged ({error}): move it away '
                    f'to go on without them'
                ) from error
            epoch = self._epoch(runner, runner.iter)
            self._rows = {part: [row for row in kept[part] if row['epoch'] <= epoch] for part in self._rows}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Tensor] | None = None
    ) -> None:
        """Adds a point every ``interval`` iterations and at the end of an epoch."""
        for name, value in (outputs or {}).items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._count += 1
        if self._count == self.interval or self.is_last_train_iter(runner) or self._ends_epoch(runner, batch_idx):
            self._add_point(runner, runner.iter + 1)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds a point and saves all, so that a run that goes on from the checkpoint has them."""
        if self._training:
            if self._count:
                self._add_point(runner, checkpoint['meta']['iter'])
            self._save(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Saves the points so far."""
        self._save(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Adds the metrics of a validation during training."""
        if self._training:
            row = {'epoch': self._epoch(runner, runner.iter), **_numbers(metrics or {})}
            # A resumed run repeats the validation of its checkpoint.
            self._rows['val'] = [kept for kept in self._rows['val'] if kept['epoch'] < row['epoch']] + [row]
            self._save(runner)

    def after_train(self, runner: Runner) -> None:
        """Draws the curves."""
        self._training = False
        self._draw(runner)

    def _add_point(self, runner: Runner, iterations: int) -> None:
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._rows['train'].append({'epoch': self._epoch(runner, iterations), **means})
        self._sums, self._count = {}, 0

    @staticmethod
    def _epoch(runner: Runner, iterations: int) -> float:
        return iterations / len(runner.train_dataloader)

    @staticmethod
    def _ends_epoch(runner: Runner, batch_idx: int) -> bool:
        return batch_idx + 1 == len(runner.train_dataloader)

    @master_only
    def _save(self, runner: Runner) -> None:
        write_text_atomically(Path(runner.work_dir) / 'curves.json', json.dumps(self._rows))

    @master_only
    def _draw(self, runner: Runner) -> None:
        if any(self._rows.values()):
            figure = draw_curves(self._rows['train'], self._rows['val'], title=runner.experiment_name)
            save_figure(figure, Path(runner.work_dir) / 'curves.png')
            runner.logger.info(f'curves: {Path(runner.work_dir) / "curves.png"}')


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are one number each, of whatever type, as JSON knows it."""
    items = {
        name: value.squeeze().tolist() if isinstance(value, Tensor | np.ndarray) else value
        for name, value in metrics.items()
    }
    return {name: float(value) for name, value in items.items() if isinstance(value, Real)}
