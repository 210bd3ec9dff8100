"""Training runs and the logs that stay of them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fg_plugin.atomic_write import write_atomically
from fg_plugin.reproduction.paper import Quantity

LOGS = ('metrics.json', 'curves.json')


class RunError(RuntimeError):
    """A training ended with an error."""


class RunInProgressError(RunError):
    """Another process trains the run."""


class RunName(NamedTuple):
    """One training.

    Attributes:
        config: Name of its config file, without the suffix.
        seed: Its seed.
        epochs: Its number of epochs if that differs from the config's, None otherwise.
    """

    config: str
    seed: int
    epochs: int | None = None

    @property
    def folder(self) -> Path:
        """Where the run is kept, below the folder of results or of work directories."""
        name = self.config if self.epochs is None else f'{self.config}-{self.epochs}ep'
        return Path(name, f'seed{self.seed}')


class Run(NamedTuple):
    """A finished training.

    Attributes:
        seed: Its seed.
        metrics: What ``FinalMetricsHook`` wrote.
        curves: What ``CurvesHook`` wrote.
    """

    seed: int
    metrics: dict[str, Any]
    curves: dict[str, list[dict[str, float]]]

    def value(self, quantity: Quantity) -> float | None:
        """Return the run's value of ``quantity``, None if it was not measured."""
        epoch = self.metrics['epochs'] if quantity.epoch is None else quantity.epoch
        if quantity.training:
            return self._training_mean(quantity.metric, epoch)
        if quantity.epoch is None:
            return self.metrics['metrics'].get(quantity.metric)
        return next((row.get(quantity.metric) for row in self.curves['val'] if row['epoch'] == epoch), None)

    def _training_mean(self, metric: str, epoch: float) -> float | None:
        """Return the mean of a metric over the iterations of an epoch: a row is the mean of those since the last."""
        total = weights = 0.0
        start = epoch - 1.0
        for row in self.curves['train']:
            if start < row['epoch'] <= epoch:
                if metric in row:
                    total += (row['epoch'] - start) * row[metric]
                    weights += row['epoch'] - start
                start = row['epoch']
        return total / weights if weights else None


def is_finished(name: RunName, results: Path) -> bool:
    """Return whether the logs of a run are kept."""
    return all((results / name.folder / log).is_file() for log in LOGS)


def finished_runs(config: str, results: Path) -> dict[int | None, list[Run]]:
    """Return the finished runs of a config by their number of epochs, None for the config's own.

    Folders of other names than those of runs, such as ``seed0_old``, are left alone.
    """
    runs: dict[int | None, list[Run]] = {}
    for folder in sorted(results.glob(f'{config}*/seed*')):
        seed = re.fullmatch('seed(0|[1-9][0-9]*)', folder.name)
        if seed is None:
            continue
        head, _, epochs = folder.parent.name.rpartition('-')
        if folder.parent.name == config:
            key = None
        elif head == config and epochs.endswith('ep') and epochs[:-2].isdigit():
            key = int(epochs[:-2])
        else:
            continue
        name = RunName(config, int(seed[1]), key)
        if is_finished(name, results):
            metrics, curves = (json.loads((folder / log).read_text()) for log in LOGS)
            runs.setdefault(key, []).append(Run(name.seed, metrics, curves))
    return {key: sorted(group, key=lambda run: run.seed) for key, group in runs.items()}


def train(name: RunName, root: Path, work_dirs: Path, results: Path, options: Sequence[str] = ()) -> None:
    """Train a run, or go on with an interrupted one, and keep its logs. A finished run is left alone.

    Several processes can share the runs of one folder of work directories: each run has a lock file beside its folder
    (not on Windows).

    Args:
        name: The run.
        root: The checkout, which holds ``tools`` and ``configs``.
        work_dirs: Folder of the runs' work directories, with checkpoints.
        results: Folder of the runs' logs.
        options: More ``--cfg-options``.

    Raises:
        RunInProgressError: If another process trains the run.
        RunError: If the training ends with an error.
    """
    work_dir = work_dirs / name.folder
    with _locked(work_dir.with_name(f'{work_dir.name}.lock')) as lock:
        if lock is None:
            raise RunInProgressError(f'{name.folder} is being trained by another process.')
        if not is_finished(name, results):
            _train(name, root, work_dir, results, options, lock)


def last_checkpoint(name: RunName, work_dirs: Path, results: Path, what: str) -> Path:
    """Return the last checkpoint of a finished run.

    Args:
        name: The run.
        work_dirs: Folder of the runs' work directories.
        results: Folder of the results.
        what: What needs the checkpoint, for the error.

    Raises:
        FileNotFoundError: If it is not there, or the training has not ended, as where logs that were made elsewhere
            say that it has.
    """
    pointer = work_dirs / name.folder / 'last_checkpoint'
    checkpoint = Path(pointer.read_text().strip()).name if pointer.is_file() else 'last_checkpoint'
    path = pointer.with_name(checkpoint)
    if not path.is_file() or path == pointer:
        raise FileNotFoundError(
            f'{what} needs a checkpoint of {name.folder}, but {path} does not exist: the run was made elsewhere. '
            f'Choose another seed (--seeds), or move {results / "runs" / name.folder} away to train it again.'
        )
    # Written when a training ends.
    if not pointer.with_name('metrics.json').is_file():
        raise FileNotFoundError(
            f'{what} needs the last checkpoint of {name.folder}, but the training in {pointer.parent} has not ended: '
            f'resume it by tools/train.py (--resume), or choose another seed (--seeds).'
        )
    return path


def has_last_checkpoint(name: RunName, work_dirs: Path, results: Path) -> bool:
    """Return whether ``last_checkpoint`` has one to return."""
    try:
        last_checkpoint(name, work_dirs, results, '')
    except FileNotFoundError:
        return False
    return True


def when_trained(name: RunName, work_dirs: Path) -> str:
    """Return when the training of the last checkpoint ended: what tells it from others of the same name."""
    return json.loads((work_dirs / name.folder / 'metrics.json').read_text())['finished']


@contextmanager
def _locked(path: Path) -> Iterator[tuple[int, ...] | None]:
    """Lock a file, and yield the descriptors that hold the lock, or None if another process holds it.

    A child that inherits the descriptors holds on to the lock where this process is killed.
    """
    if os.name == 'nt':
        yield ()
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield (file.fileno(),)


def _train(
    name: RunName, root: Path, work_dir: Path, results: Path, options: Sequence[str], lock: tuple[int, ...]
) -> None:
    # The command is part of the log, which should not depend on where the checkout lies.
    shown = work_dir.relative_to(root) if work_dir.is_relative_to(root) else work_dir
    settings = [f'randomness.seed={name.seed}', *options]
    if name.epochs is not None:
        settings.append(f'train_cfg.max_epochs={name.epochs}')
    config = Path('configs', f'{name.config}.py')
    command = ['tools/train.py', str(config), '--work-dir', str(shown), '--resume', '--cfg-options', *settings]
    ended = subprocess.run([sys.executable, *command], cwd=root, check=False, pass_fds=lock)
    if ended.returncode:
        raise RunError(f'{name.folder} ended with status {ended.returncode}; the next call resumes it.')
    _keep_logs(work_dir, results / name.folder)


def _keep_logs(work_dir: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # A log of this run beside one of an earlier run would pass for a finished run.
    for log in LOGS:
        (folder / log).unlink(missing_ok=True)
    for log in LOGS:
        with write_atomically(folder / log) as file:
            file.write((work_dir / log).read_bytes())
