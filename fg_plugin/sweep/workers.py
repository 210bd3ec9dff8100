"""Runs a check over many architectures in processes of its own, so that a crash is one architecture's failure."""

import math
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from fg_plugin.sweep.record import Record

Check = Callable[[str, dict[str, Any]], Iterable[str]]
"""Yields what does not hold for the architecture of this name, and fills the dict with what it measures."""

READY = 'ready'


def run_check(check: Check, name: str) -> Record:
    """Run ``check`` in this process; an exception is a failure too."""
    failures: list[str] = []
    facts: dict[str, Any] = {}
    start = time.perf_counter()
    try:
        failures.extend(check(name, facts))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        failures.append(f'{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})')
    return Record(name, failures, facts, round(time.perf_counter() - start, 3))


def run_checks(check: Check, names: Sequence[str], processes: int, timeout: float) -> Generator[Record, None, None]:
    """Yield a record for each of ``names``, in the order in which they are finished.

    Args:
        check: A function of a module, which the processes can import.
        names: Architectures.
        processes: How many are checked at the same time.
        timeout: Seconds for one architecture; after that its process is ended, and it has failed.
    """
    pending = list(reversed(names))
    workers = [_Worker(check) for _ in range(min(processes, len(names)))]
    try:
        for worker in workers:
            worker.start(pending.pop())
        busy = list(workers)
        while busy:
            remaining = min(worker.started + timeout for worker in busy) - time.monotonic()
            wait([worker.connection for worker in busy], None if math.isinf(remaining) else max(0.0, remaining))
            for worker in list(busy):
                record = worker.poll(timeout)
                if record is None:
                    continue
                yield record
                if pending:
                    worker.start(pending.pop())
                else:
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that checks one architecture after another, and is replaced when it crashes or takes too long."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._open()

    def _open(self) -> None:
        context = multiprocessing.get_context('spawn')
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._check, other), daemon=True)
        self._process.start()
        # The only other copy is the child's, so that its end is seen here as the end of the file.
        other.close()
        self._is_ready = False

    def start(self, name: str) -> None:
        self.name = name
        # The time of a new process counts from when it has imported what it needs.
        self.started = time.monotonic() if self._is_ready else math.inf
        self.connection.send(name)

    def poll(self, timeout: float) -> Record | None:
        """Return the record of the current architecture, None if it is not finished."""
        try:
            if self.connection.poll():
                message = self.connection.recv()
                if message != READY:
                    return message
                self._is_ready = True
                self.started = time.monotonic()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return self._replaced(f'the process crashed ({_describe_exit(self._process.exitcode)})')
        if time.monotonic() - self.started < timeout:
            return None
        return self._replaced(f'not finished after {timeout:g} s')

    def _replaced(self, failure: str) -> Record:
        seconds = round(max(0.0, time.monotonic() - self.started), 3)
        self.end()
        self._open()
        return Record(self.name, [failure], {}, seconds)

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(check: Check, connection: Connection) -> None:
    # Ctrl-C is for the parent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    connection.send(READY)
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        connection.send(run_check(check, name))


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f'exit code {code}'
