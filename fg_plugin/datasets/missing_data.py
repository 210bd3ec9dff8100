"""What a data set says when its files are missing: which, how to get them, what runs without them."""

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
    """Run the body in the main process while the other processes wait, then in those.

    So that one process downloads or fills a cache, and the others find it done. Without a process group the body
    just runs.
    """
    if not is_main_process():
        barrier()
    try:
        yield
    finally:
        if is_main_process():
            barrier()
