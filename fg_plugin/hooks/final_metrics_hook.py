"""What a run achieved, and on what, as one JSON file."""

import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from fg_plugin.atomic_write import write_text_atomically
from fg_plugin.json_text import json_text

_ELAPSED = 'elapsed_seconds'
_METRICS = 'metrics.json'


@HOOKS.register_module()
class FinalMetricsHook(Hook):
    """Writes ``metrics.json`` when the training ends and ``test_metrics.json`` after a test.

    The metrics are those of the last epoch, never of the best. ``elapsed_seconds`` counts the training with its
    validations, over all parts of a resumed run. The ``epochs`` of an iteration-based loop are its passes over the
    data, such as 2.5.
    """

    # After the hooks that add metrics, before the checkpoint that keeps the elapsed time.
    priority = 'LOW'

    def __init__(self) -> None:
        self._metrics: dict[str, float] = {}
        self._start = 0.0
        self._elapsed_before = 0.0

    def before_train(self, runner: Runner) -> None:
        """Continues the clock of a resumed run; a new one has no metrics yet, whatever its folder holds."""
        if not runner.iter:
            self._remove_earlier(runner)
        self._start = perf_counter()
        hub = runner.message_hub
        self._elapsed_before = hub.get_info(_ELAPSED) if _ELAPSED in hub.runtime_info else 0.0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Puts the clock into the checkpoint of an iteration."""
        if _counts_iterations(runner):
            runner.message_hub.update_info(_ELAPSED, self._elapsed())

    def after_train_epoch(self, runner: Runner) -> None:
        """Puts the clock into the checkpoint of an epoch."""
        runner.message_hub.update_info(_ELAPSED, self._elapsed())

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keeps the latest metrics."""
        self._metrics = dict(metrics or {})

    def after_train(self, runner: Runner) -> None:
        """Writes the metrics of the last epoch."""
        passes = runner.iter / len(runner.train_dataloader) if _counts_iterations(runner) else runner.epoch
        training = {
            'epochs': passes,
            'iterations': runner.iter,
            'batch_size': runner.train_dataloader.batch_size,
            'processes': runner.world_size,
            _ELAPSED: round(self._elapsed(), 1),
        }
        self._write(runner, _METRICS, self._metrics, training)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the metrics of a test."""
        self._write(runner, 'test_metrics.json', dict(metrics or {}), {'checkpoint': runner._load_from})

    @master_only
    def _remove_earlier(self, runner: Runner) -> None:
        Path(runner.work_dir, _METRICS).unlink(missing_ok=True)

    def _elapsed(self) -> float:
        return self._elapsed_before + perf_counter() - self._start

    @master_only
    def _write(self, runner: Runner, name: str, metrics: dict[str, float], facts: dict) -> None:
        config = getattr(runner.cfg, 'filename', None)
        report = {
            'config': Path(config).name if config else runner.experiment_name,
            'command': shlex.join(['python', *sys.argv]),
            'metrics': metrics,
            **facts,
            'seed': runner.seed,
            'parameters': sum(parameter.numel() for parameter in runner.model.parameters()),
            'versions': {'python': platform.python_version(), **_package_versions()},
            'hardware': _hardware(),
            'finished': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        }
        path = Path(runner.work_dir) / name
        write_text_atomically(path, json_text(report))
        runner.logger.info(f'metrics: {path}')


def _counts_iterations(runner: Runner) -> bool:
    """Whether the training has no epochs: MMEngine's loop is in epoch 0 from its start to its end."""
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in ('torch', 'torchvision', 'timm', 'mmengine', 'onedl-mmengine', 'numpy'):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _hardware() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name()
    system = f'{platform.system()} {platform.machine()}'
    return f'{device}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, {system}'


def _cpu_name() -> str:
    """Name of the processor: Linux keeps it out of reach of ``platform.processor``."""
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()
