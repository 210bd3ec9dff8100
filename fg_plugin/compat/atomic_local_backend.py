"""Files that are whole or absent.

MMEngine's ``LocalBackend`` (mmengine 0.10.7, onedl-mmengine 0.10.12) writes into the final file: a run killed while it
saves leaves half a checkpoint under the name that ``--resume`` looks for.
"""

import os
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

TEMPORARY_SUFFIX = '.tmp'
"""What the name of a file ends in until it is whole."""


class AtomicLocalBackend(LocalBackend):
    """Local files, written under a temporary name and then renamed: ``backend_args=dict(backend='atomic_local')``.

    A killed run may leave ``<name>.tmp`` behind; the next save of that name replaces it.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``, which is at no time half-written.

        Raises:
            OSError: If it cannot be written, as on a full disk. Then the file is what it was before.
        """
        path = Path(filepath)
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise OSError(error.errno, f'{path} could not be written: {error.strerror or error}') from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write the text ``obj`` to ``filepath``, which is at no time half-written."""
        self.put(obj.encode(encoding), filepath)


register_backend('atomic_local', AtomicLocalBackend, force=True)
