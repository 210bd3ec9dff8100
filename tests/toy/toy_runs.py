"""tools/train.py in forked processes, which start at once and can be killed at any step or write."""

import itertools
import multiprocessing
import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import mmengine.config.config
import mmengine.hooks.checkpoint_hook
import torch
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner.checkpoint import CheckpointLoader

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'tests' / 'toy' / 'toy_fg_config.py'

Sabotage = Callable[[int], None]
"""What is done in each process, of the given rank, before its training starts."""


def train(work_dir: Path, *arguments: str | Path, processes: int = 1, sabotage: Sabotage | None = None) -> list[int]:
    """Train the toy of toy_fg_config.py and return the exit code of each process.

    As under torchrun, the other processes are ended when one fails. What they print is added to
    ``<work_dir>.<rank>.txt``.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    launcher = ['--launcher', 'pytorch' if processes > 1 else 'none']
    command = [str(word) for word in (CONFIG, '--work-dir', work_dir, *launcher, *arguments)]
    context = multiprocessing.get_context('fork')
    running = [
        context.Process(target=_train, args=(rank, processes, port, command, Path(f'{work_dir}.{rank}.txt'), sabotage))
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


def _train(rank: int, processes: int, port: int, command: list[str], log: Path, sabotage: Sabotage | None) -> None:
    # The threads of the parent do not exist here.
    torch.set_num_threads(1)
    # Formatting the text of the config for each checkpoint takes longer than the training.
    mmengine.config.config.FormatCode = lambda text, **_: (text, True)  # type: ignore[attr-defined]
    with log.open('a') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if processes > 1:
        names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        os.environ.update({name: str(value) for name, value in names.items()})
    if sabotage is not None:
        sabotage(rank)
    sys.argv = ['train.py', *command]
    runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_step(step: int, victim: int = 0) -> Sabotage:
    """Kill one process after a training step, counted from the start of the training."""

    def sabotage(rank: int) -> None:
        run_iter = EpochBasedTrainLoop.run_iter

        def run_and_die(self: Any, *args: Any) -> None:
            run_iter(self, *args)
            if self.iter == step and rank == victim:
                _kill()

        EpochBasedTrainLoop.run_iter = run_and_die  # type: ignore[method-assign]

    return sabotage


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
