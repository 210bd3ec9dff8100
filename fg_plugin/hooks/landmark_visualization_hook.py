"""Predicted landmarks as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from fg_plugin.hooks.training_progress import training_progress
from fg_plugin.visualization.figures import figure_to_array, save_figure
from fg_plugin.visualization.landmark_grid import LandmarkRow, draw_landmark_grid


class _Prediction(NamedTuple):
    image: Tensor
    predicted: Tensor
    truth: Tensor
    error: float


@HOOKS.register_module()
class LandmarkVisualizationHook(Hook):
    """Draws ``landmarks.png``: the first images of the test set, and the worst, at the end of a training or test.

    The picture also goes to the run's visual backends. Of a distributed run, it shows the first process's images.

    Args:
        columns: Images in a row.
        rows: Rows of first images, above one row of the worst.
        eyes: Positions of the two eye centres among the landmarks, whose distance errors are relative to.
        draw_images: Whether to draw the images behind the landmarks. Pictures of data whose licence forbids passing it
            on, such as MTFL, are shared without.

    Raises:
        ValueError: If ``columns`` or ``rows`` is less than one.
    """

    def __init__(
        self, columns: int = 8, rows: int = 2, eyes: tuple[int, int] = (0, 1), draw_images: bool = True
    ) -> None:
        if min(columns, rows) < 1:
            raise ValueError(f'columns and rows should be at least 1, but got {columns} and {rows}')
        self.columns = columns
        self.rows = rows
        self.eyes = eyes
        self.draw_images = draw_images
        self._first: list[_Prediction] = []
        self._worst: list[_Prediction] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Forgets the last epoch's predictions."""
        self._first, self._worst = [], []

    before_test_epoch = before_val_epoch

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence[dict] | None = None
    ) -> None:
        """Keeps the first and the worst predictions."""
        if data_batch is None or outputs is None:
            return
        images = data_batch['inputs'] if self.draw_images else torch.zeros_like(data_batch['inputs'])
        predictions = [
            _Prediction(image, sample['pred_landmarks'], sample['gt_landmarks'], self._error(sample))
            for image, sample in zip(images, outputs, strict=True)
        ]
        self._first += predictions[: self.rows * self.columns - len(self._first)]
        self._worst = sorted(self._worst + predictions, key=_badness, reverse=True)[: self.columns]

    after_test_iter = after_val_iter

    def after_train(self, runner: Runner) -> None:
        """Draws what the last validation of a training has kept."""
        if self._first:
            self._draw(runner, training_progress(runner)[0])

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draws after a test."""
        self._draw(runner, runner.epoch)

    def _error(self, sample: dict) -> float:
        truth = sample['gt_landmarks']
        first, second = self.eyes
        distances = torch.linalg.vector_norm(sample['pred_landmarks'] - truth, dim=-1)
        return 100 * float(distances.max() / torch.linalg.vector_norm(truth[first] - truth[second]))

    @master_only
    def _draw(self, runner: Runner, step: int) -> None:
        starts = range(0, len(self._first), self.columns)
        rows = [_row('first images', self._first[start : start + self.columns]) for start in starts]
        figure = draw_landmark_grid(
            [*rows, _row('largest errors', self._worst)],
            title=f'{runner.experiment_name}: largest landmark error in % of the interocular distance',
        )
        path = Path(runner.work_dir) / 'landmarks.png'
        save_figure(figure, path)
        runner.visualizer.add_image('landmarks', figure_to_array(figure), step=step)
        runner.logger.info(f'landmarks: {path}')


def _badness(prediction: _Prediction) -> float:
    # A face without a prediction is the worst; as a NaN it would leave the list unsorted.
    return math.inf if math.isnan(prediction.error) else prediction.error


def _row(title: str, predictions: list[_Prediction]) -> LandmarkRow:
    images, predicted, truth, errors = zip(*predictions, strict=True)
    captions = [f'{error:.1f} %' for error in errors]
    return LandmarkRow(title, torch.stack(images).cpu(), torch.stack(predicted), torch.stack(truth), captions)
