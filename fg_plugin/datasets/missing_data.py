"""What a data set says when its files are missing: which, how to get them, what runs without them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dist import barrier, is_main_process


def missing_data(what: str, how: str, demo: str) -> FileNotFoundError:
    """Build the error of a data set whose files are missing or incomplete.

    Args:
        what: Which files are missing.
        how: How to get them, as an instruction.
        demo: The config that trains without this data.
    """
    return FileNotFoundError(f'{what}. To get it: {how}. Without it, {demo} trains on data that needs no download.')


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the body in the main process while the others wait, then in one of each other machine, then in the rest.

    So that one process downloads or fills a cache, and the others find it done, also where each machine has a folder of
    its own. Without a process group the body just runs.
    """
    # torchrun and Slurm's launcher of MMEngine set it. Without it, as under MPI, only the main process goes first.
    first_of_machine = os.environ.get('LOCAL_RANK', '0') == '0'
    turn = 0 if is_main_process() else 1 if first_of_machine else 2
    for _ in range(turn):
        barrier()
    try:
        yield
    finally:
        for _ in range(2 - turn):
            barrier()
