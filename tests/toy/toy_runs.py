"""tools/train.py in processes that start at once and can be killed at any step or write."""

import errno
import itertools
import multiprocessing
import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import mmengine.config.config
import mmengine.hooks.checkpoint_hook
import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner.checkpoint import CheckpointLoader

import fg_plugin.hooks

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'tests' / 'toy' / 'toy_fg_config.py'

KILLED = -9

Sabotage = Callable[[int], None]
"""What is done in each process, of the given rank, before its training starts."""


def in_processes(processes: int, target: Callable[..., None], *arguments: Any) -> list[int]:
    """Run ``target(rank, *arguments)`` in processes with torchrun's environment; return their exit codes.

    They are forked from one that has imported everything and done nothing: autograd cannot be used in a fork of a
    process that has used it. ``target`` has to be found by its module. As under torchrun, the other processes are ended
    when one fails.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = _fork_server()
    environment = dict(os.environ)
    running = [
        context.Process(target=_prepared, args=(rank, processes, port, environment, target, arguments))
        for rank in range(processes)
    ]
    for process in running:
        process.start()
    while alive := [process for process in running if process.is_alive()]:
        wait([process.sentinel for process in alive])
        if any(process.exitcode for process in running):
            for process in running:
                process.kill()
    for process in running:
        process.join()
    return [process.exitcode or 0 for process in running]


@cache
def _fork_server() -> Any:
    paths = [str(ROOT), str(ROOT / 'tests' / 'toy'), os.environ.get('PYTHONPATH', '')]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', os.pathsep.join(paths))
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(['toy_distributed_checks'])
        forkserver.ensure_running()
    return context


def _prepared(
    rank: int, processes: int, port: int, environment: dict[str, str], target: Callable[..., None], arguments: tuple
) -> None:
    torch.set_num_threads(1)
    names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    os.environ.update(environment)
    os.environ.update({name: str(value) for name, value in names.items()})
    target(rank, *arguments)


def train(
    work_dir: Path,
    *arguments: str | Path,
    processes: int = 1,
    sabotage: Sabotage | None = None,
    config: Path = CONFIG,
) -> list[int]:
    """Train the toy of toy_fg_config.py, or another config; return the exit code of each process.

    What the processes print is added to ``<work_dir>.<rank>.txt``.
    """
    launcher = ['--launcher', 'pytorch' if processes > 1 else 'none']
    command = [str(word) for word in (config, '--work-dir', work_dir, *launcher, *arguments)]
    return in_processes(processes, _train, command, work_dir, sabotage)


def printed(work_dir: Path) -> str:
    """What the processes of the trainings in ``work_dir`` have printed, one after the other."""
    return ''.join(path.read_text() for path in sorted(work_dir.parent.glob(f'{work_dir.name}.*.txt')))


def _train(rank: int, command: list[str], work_dir: Path, sabotage: Sabotage | None) -> None:
    # Formatting the text of the config for each checkpoint takes longer than the training.
    mmengine.config.config.FormatCode = lambda text, **_: (text, True)  # type: ignore[attr-defined]
    sys.stdout = sys.stderr = work_dir.with_name(f'{work_dir.name}.{rank}.txt').open('a', buffering=1)
    if sabotage is not None:
        sabotage(rank)
    sys.argv = ['train.py', *command]
    runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class KillAfterStep:
    """Kills one process after a training step, counted from the start of the training."""

    step: int
    victim: int = 0

    def __call__(self, rank: int) -> None:
        """The sabotage of a process."""
        run_iter = EpochBasedTrainLoop.run_iter

        def run_and_die(loop: Any, *args: Any) -> None:
            run_iter(loop, *args)
            if loop.iter == self.step and rank == self.victim:
                _kill()

        EpochBasedTrainLoop.run_iter = run_and_die  # type: ignore[method-assign]


@dataclass
class RecordWriting:
    """Lets the processes after the first list the files in ``folder`` that they open for writing."""

    folder: Path
    report: Path

    def __call__(self, rank: int) -> None:
        """The sabotage of a process."""
        if rank > 0:
            sys.addaudithook(self._record)

    def _record(self, event: str, arguments: tuple) -> None:
        path, flags = (str(arguments[0]), arguments[2]) if event == 'open' else ('', 0)
        if path.startswith(str(self.folder)) and flags & (os.O_WRONLY | os.O_RDWR):
            descriptor = os.open(self.report, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f'{path}\n'.encode())
            os.close(descriptor)


@dataclass
class FullDisk:
    """Makes the file system full when half of a file whose name begins with ``name`` is written."""

    name: str

    def __call__(self, rank: int = 0) -> None:
        """The sabotage of a process."""
        path_open = Path.open

        def open_path(path: Path, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
            file = path_open(path, mode, *args, **kwargs)
            return _FullFile(file) if 'w' in mode and path.name.startswith(self.name) else file

        Path.open = open_path  # type: ignore[method-assign, assignment]


class _FullFile:
    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> '_FullFile':
        return self

    def __exit__(self, *args: Any) -> None:
        self.file.__exit__(*args)

    def write(self, data: Any) -> int:
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def own_disk(rank: int) -> None:
    """The sabotage of a second node that does not see the checkpoints of the first."""
    if rank == 1:
        fg_plugin.hooks.latest_checkpoint = lambda *_: None  # type: ignore[assignment]


class Writing:
    """Counts what happens to the files of the checkpoints, and kills the process at one of these events.

    Args:
        fatal: Number of that event, from 0; None to count only.
        report: File that gets the names of the events, one a line.
    """

    def __init__(self, fatal: int | None, report: Path) -> None:
        self.fatal = fatal
        self.report = report
        self.count = itertools.count()

    def __call__(self, rank: int) -> None:
        """The sabotage of a process."""
        if rank > 0:
            return
        path_open, fsync, replace, unlink = Path.open, os.fsync, Path.replace, Path.unlink

        def open_path(path: Path, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
            file = path_open(path, mode, *args, **kwargs)
            return _KillingFile(file, self, path.name) if 'w' in mode and '.pth' in path.name else file

        def open_pointer(path: str, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
            return _KillingFile(open(path, mode, *args, **kwargs), self, Path(path).name)

        def synchronise(descriptor: int) -> None:
            self.happens('before fsync')
            fsync(descriptor)

        def rename(path: Path, target: Path) -> Path:
            self.happens(f'before renaming {path.name}')
            result = replace(path, target)
            self.happens(f'after renaming {path.name}')
            return result

        def remove(path: Path, missing_ok: bool = False) -> None:
            self.happens(f'before removing {path.name}')
            unlink(path, missing_ok)
            self.happens(f'after removing {path.name}')

        Path.open, Path.replace, Path.unlink = open_path, rename, remove  # type: ignore[method-assign, assignment]
        os.fsync = synchronise  # type: ignore[assignment]
        mmengine.hooks.checkpoint_hook.open = open_pointer  # type: ignore[attr-defined]

    def happens(self, event: str) -> None:
        """Note an event, and die of it if it is the fatal one."""
        number = next(self.count)
        with open(self.report, 'a') as file:
            file.write(f'{event}\n')
        if number == self.fatal:
            _kill()


class _KillingFile:
    def __init__(self, file: Any, writing: Writing, name: str) -> None:
        self.file, self.writing, self.name = file, writing, name
        writing.happens(f'{name} is empty')

    def __enter__(self) -> '_KillingFile':
        return self

    def __exit__(self, *args: Any) -> None:
        self.file.__exit__(*args)

    def write(self, data: Any) -> int:
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.writing.happens(f'{self.name} is half written')
        return half + self.file.write(data[half:])

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()


def trained_state(work_dir: Path, name: str = 'epoch_4.pth') -> dict[str, Any]:
    """What a checkpoint knows of its training: weights, averaged weights, optimizer, schedules, losses."""
    checkpoint = CheckpointLoader.load_checkpoint(str(work_dir / name))
    losses = checkpoint['message_hub']['log_scalars']['train/loss'].data[0].tolist()
    parts = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
    return {**{part: checkpoint[part] for part in parts}, 'losses': losses}


def differences(actual: Any, expected: Any, place: str = '') -> list[str]:
    """The places at which two nested containers of tensors and values are not equal bit for bit."""
    if type(actual) is not type(expected):
        return [f'{place}: {type(actual)} instead of {type(expected)}']
    if isinstance(expected, torch.Tensor):
        same = actual.dtype == expected.dtype and torch.equal(actual, expected)
        return [] if same else [place]
    if isinstance(expected, dict):
        if actual.keys() != expected.keys():
            return [f'{place}: keys {actual.keys() ^ expected.keys()}']
        return [text for key in expected for text in differences(actual[key], expected[key], f'{place}/{key}')]
    if isinstance(expected, list | tuple):
        if len(actual) != len(expected):
            return [f'{place}: {len(actual)} instead of {len(expected)} items']
        pairs = enumerate(zip(actual, expected, strict=True))
        return [text for index, pair in pairs for text in differences(*pair, f'{place}/{index}')]
    return [] if actual == expected else [f'{place}: {actual} instead of {expected}']


def checkpoints(work_dir: Path) -> Iterator[str]:
    """The names of the checkpoints in a folder, each of which is loaded."""
    for path in sorted(work_dir.glob('*.pth')):
        CheckpointLoader.load_checkpoint(str(path))
        yield path.name
