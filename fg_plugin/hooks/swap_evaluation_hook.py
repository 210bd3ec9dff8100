"""Filters from one image, prediction on another (section 4.4.2)."""

from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from fg_plugin.conditioning import all_conditioned_on, conditioned_parts
from fg_plugin.hooks.training_progress import training_progress
from fg_plugin.hooks.unwrapped_model import unwrapped_model
from fg_plugin.swapping import other_images


@HOOKS.register_module()
class SwapEvaluationHook(Hook):
    """Evaluates again with the filters of another, uniformly random image of the same set.

    The results are logged as ``swap/<metric>``, such as ``swap/accuracy_top1``. Near chance, the filters belong to
    their image; near the ordinary metric, they are nearly the same for all images.

    A model without generated filters is left alone, so that a baseline shares its config.

    Args:
        metric: Config of the metric.
        interval: Evaluate in the validations at multiples of so many epochs (iterations in an iteration-based loop) and
            in that at the end; 0 evaluates in the latter only.
        seed: Seed of the choice of the other images.

    Raises:
        ValueError: If ``interval`` is negative; before the run's first evaluation, if the set has only one
            image.
    """

    # Before the hooks that log the metrics and keep them.
    priority = 'ABOVE_NORMAL'

    def __init__(self, metric: dict | None = None, interval: int = 0, seed: int = 0) -> None:
        if interval < 0:
            raise ValueError(
                f'interval should be 0 (at the end) or a number of epochs or iterations, but got {interval}'
            )
        self.metric = METRICS.build({'type': 'Accuracy'} if metric is None else metric)
        self.interval = interval
        self.seed = seed
        self._logged: list[str] = []
        # Whether the last validation had no evaluation, and whether it is being repeated with one.
        self._is_missing = self._repeats = False

    def before_val_epoch(self, runner: Runner) -> None:
        """Takes the last results out of the log, which would repeat them at epochs without an evaluation."""
        for name in self._logged:
            runner.message_hub.log_scalars.pop(name, None)
        self._logged = []

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Evaluates with swapped filters and adds the results to ``metrics`` and the log."""
        step, last = training_progress(runner)
        self._is_missing = not (self._repeats or step == last or (self.interval and step % self.interval == 0))
        if not self._is_missing:
            self._add(runner, runner.val_dataloader, 'val', metrics)

    def after_train(self, runner: Runner) -> None:
        """Repeats the last validation with an evaluation, if the training was stopped early."""
        if self._is_missing and conditioned_parts(unwrapped_model(runner)):
            # Not the evaluation alone: other hooks may validate with averaged weights.
            self._repeats = True
            runner.val_loop.run()
            self._repeats = False

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """The same for a test."""
        self._add(runner, runner.test_dataloader, 'test', metrics)

    def _add(self, runner: Runner, dataloader: DataLoader, part: str, metrics: dict[str, float] | None) -> None:
        model = unwrapped_model(runner)
        if not conditioned_parts(model):
            return
        for name, value in self._evaluate(model, dataloader).items():
            key = f'swap/{name.replace("/", "_")}'
            self._logged.append(f'{part}/{key}')
            runner.message_hub.update_scalar(f'{part}/{key}', value)
            if metrics is not None:
                metrics[key] = value

    @torch.no_grad()
    def _evaluate(self, model: Any, dataloader: DataLoader) -> dict[str, float]:
        dataset: Any = dataloader.dataset
        batch_sampler: Any = dataloader.batch_sampler
        others = other_images(len(dataset), self.seed)
        evaluator = Evaluator(self.metric)
        evaluator.dataset_meta = getattr(dataset, 'metainfo', None)
        model.eval()
        # The samplers of mmengine give the same order again; samples need not know their position.
        for positions, batch in zip(batch_sampler, dataloader, strict=True):
            images = model.data_preprocessor(_take(dataloader, others[positions].tolist()), False)['inputs']
            data = model.data_preprocessor(batch, False)
            with all_conditioned_on(conditioned_parts(model), images):
                predictions = model(**data, mode='predict')
            evaluator.process(data_samples=predictions, data_batch=batch)
        return evaluator.evaluate(len(dataset))


def _take(dataloader: DataLoader, positions: list[int]) -> Any:
    """Return samples of the data set as a batch, as the loader itself makes one."""
    dataset: Any = dataloader.dataset
    whole = getattr(dataset, '__getitems__', None)
    samples = whole(positions) if whole else [dataset[position] for position in positions]
    return dataloader.collate_fn(samples)
