"""Where a run left off."""

import re
from pathlib import Path

from mmengine.config import Config

# A run that leaves it has begun where earlier checkpoints lie, and saved none of its own.
BEGAN_ANEW = 'began_anew'
_NAME = re.compile(r'(epoch|iter)_\d+\.pth')


def latest_checkpoint(
    work_dir: str | Path, folder: str | Path | None = None, filename_tmpl: str | None = None
) -> Path | None:
    """Return the checkpoint that was saved last by the run in ``work_dir``, or None.

    MMEngine's pointer ``last_checkpoint`` holds an absolute path: where the folder was moved or copied, the file of the
    same name in it is meant, and where the run was killed while it wrote the pointer, the newest checkpoint. What was
    made from a checkpoint, as by an export or by ``published_keys``, has another name and cannot be resumed.

    Args:
        work_dir: Folder of the run.
        folder: Folder of its checkpoints, if that is another.
        filename_tmpl: Their names, if other than ``epoch_{}.pth`` and ``iter_{}.pth``.
    """
    folder = Path(work_dir if folder is None else folder)
    pointer = Path(work_dir, 'last_checkpoint')
    if pointer.is_file():
        target = Path(pointer.read_text().strip())
        for path in (folder / target.name, target):
            if path.is_file():
                return path
    name = _NAME if filename_tmpl is None else _names_of(filename_tmpl)
    candidates = [path for path in folder.glob('*') if name.fullmatch(path.name)]
    return max(candidates, key=lambda path: path.stat().st_mtime_ns, default=None)


def check_began(work_dir: str | Path, checkpoint: Path) -> None:
    """Check that ``checkpoint``, the latest in ``work_dir``, is of the last run in it.

    Raises:
        ValueError: If that run began anew, and was stopped before it saved one.
    """
    if Path(work_dir, BEGAN_ANEW).is_file():
        raise ValueError(
            f'--resume should find a checkpoint of the last run in {work_dir}, but that run began anew and was stopped '
            f'before it saved one: {checkpoint} is of an earlier run. Go on with the earlier one by --resume '
            f'{checkpoint}, or begin anew without --resume'
        )


def checkpoint_place(cfg: Config) -> tuple[Path, str | None]:
    """Return the folder of the checkpoints of a run, and their ``filename_tmpl`` if its config has one."""
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    work_dir = Path(cfg.work_dir)
    # CheckpointHook adds the name of the run's folder to out_dir.
    folder = Path(hook['out_dir'], work_dir.name) if hook.get('out_dir') else work_dir
    return folder, hook.get('filename_tmpl')


def _names_of(filename_tmpl: str) -> re.Pattern[str]:
    # The number may be formatted, as in ``{:04d}``.
    return re.compile(r'\d+'.join(re.escape(part) for part in re.split(r'\{[^}]*\}', filename_tmpl)))
