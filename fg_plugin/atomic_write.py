"""Files that appear complete or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing, and rename it to ``path`` if the body succeeds.

    A file that it replaces hands its permissions on; others have those of a new file.
    """
    # Not of the name of path, which may be as long as a name can be. Not by tempfile, whose files are for their owner
    # alone, whatever the umask says.
    temporary = path.with_name(f'.{secrets.token_hex(6)}.tmp')
    temporary.touch(exist_ok=False)
    try:
        with temporary.open('wb') as file:
            if path.exists():
                shutil.copymode(path, temporary)
            yield file
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        file.write(text.encode())
