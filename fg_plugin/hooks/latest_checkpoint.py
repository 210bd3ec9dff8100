"""Where a run left off."""

from pathlib import Path


def latest_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the checkpoint that was saved last in ``work_dir``, or None.

    MMEngine's pointer ``last_checkpoint`` holds an absolute path: where the folder was moved or copied, the file of the
    same name in it is meant, and where the run was killed while it wrote the pointer, the newest checkpoint.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if pointer.is_file():
        target = Path(pointer.read_text().strip())
        for path in (Path(work_dir, target.name), target):
            if path.is_file():
                return path
    candidates = [path for path in Path(work_dir).glob('*.pth') if not path.name.startswith('best_')]
    return max(candidates, key=lambda path: path.stat().st_mtime_ns, default=None)
