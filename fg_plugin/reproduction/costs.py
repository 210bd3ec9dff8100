"""What the networks of a table cost: MACs and times beside those of the first column, measured side by side."""

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from fg_plugin.benchmark.timing import interleaved_times
from fg_plugin.macs import count_macs
from fg_plugin.models.task_model import TaskModel
from fg_plugin.reproduction.paper import Table


def costs_by_column(table: Table, configs: Path, rounds: int = 15) -> dict[str, dict[str, float]]:
    """Return by column of ``table`` the MACs of one image and the relative times of a training batch.

    ``training`` is forward and backward without the optimizer, ``inference`` a forward in evaluation; both are CPU
    time, as a multiple of the first column's. The images are noise, so that no data set is needed.

    Args:
        table: The table.
        configs: Folder of the configs.
        rounds: Rounds of measurement, of which the median counts.
    """
    costs: dict[str, dict[str, float]] = {}
    calls: dict[str, dict[str, Callable[[], object]]] = {'training': {}, 'inference': {}}
    for column, name in table.columns.items():
        config = Config.fromfile(configs / f'{name}.py', lazy_import=False)
        model: TaskModel = MODELS.build(config.model)
        preprocessor = config.model.data_preprocessor
        size = (preprocessor.channels, preprocessor.image_size, preprocessor.image_size)
        inputs, samples = _noise(model, size, config.train_dataloader.batch_size)
        costs[column] = {'macs': count_macs(model, size, ()).total}
        calls['training'][column] = _training_step(model, inputs, samples)
        calls['inference'][column] = _inference(model, inputs)
    for mode, of_mode in calls.items():
        times = interleaved_times(of_mode, rounds, clock='cpu')
        first = times[next(iter(times))].median
        for column, timing in times.items():
            costs[column][mode] = timing.median / first
    return costs


def _noise(model: TaskModel, size: tuple[int, int, int], batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
    inputs = torch.rand(batch_size, *size)
    if model.target == 'labels':
        return inputs, {'labels': torch.zeros(batch_size, dtype=torch.int64)}
    return inputs, {'landmarks': (size[-1] - 1) * torch.rand(batch_size, model.head.num_landmarks, 2)}


def _training_step(model: TaskModel, inputs: Tensor, samples: dict[str, Tensor]) -> Callable[[], object]:
    def run() -> None:
        model.train()
        losses, _ = model.parse_losses(model(inputs, samples, mode='loss'))
        losses.backward()

    return run


def _inference(model: TaskModel, inputs: Tensor) -> Callable[[], object]:
    def run() -> None:
        model.eval()
        with torch.no_grad():
            model(inputs)

    return run
