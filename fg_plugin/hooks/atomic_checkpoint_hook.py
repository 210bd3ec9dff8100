"""Checkpoints that survive a killed run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from fg_plugin.compat.atomic_local_backend import TEMPORARY_SUFFIX, AtomicLocalBackend
from fg_plugin.hooks.latest_checkpoint import BEGAN_ANEW, latest_checkpoint


class _KeepUntilReplaced(AtomicLocalBackend):
    """Removes files only when told that their replacement is written."""

    def __init__(self) -> None:
        self._obsolete: dict[str, int] = {}

    def remove(self, filepath: str | Path) -> None:
        self._obsolete[str(filepath)] = Path(filepath).stat().st_ino

    def remove_obsolete(self) -> None:
        for name, inode in self._obsolete.items():
            path = Path(name)
            # A file of another inode is the replacement, saved under the same name.
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        self._obsolete.clear()


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` on local disk, safe against a run killed at any moment.

    Each checkpoint is whole or absent, and an outdated one is removed after its successor is written, not before: a
    run killed in between leaves one more. The pointer ``last_checkpoint`` may be lost; ``latest_checkpoint`` does
    without. A run that begins anew in the folder of another leaves the file ``began_anew`` until its first checkpoint,
    so that the other's is not taken for its own. A validation outside training (``runner.val()``) saves no best
    checkpoint, where ``CheckpointHook`` ends in an error. The arguments are those of ``CheckpointHook``, except that
    files are always local.

    Raises:
        OSError: If a checkpoint cannot be saved; names the last good one.
        ValueError: Before training, if the run could not be resumed exactly: an epoch-based loop with checkpoints by
            iteration, or a checkpoint from the middle of an epoch. The loop would replay that epoch from its start. Or
            if an iteration-based loop, which has no epochs, would save by epoch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, backend_args={'backend': 'atomic_local'}, **kwargs)
        self._training = False

    def before_train(self, runner: Runner) -> None:
        """Check that epochs and checkpoints agree; start from the kept checkpoints of a resumed run."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._check_epoch_boundary(runner)
        elif isinstance(runner.train_loop, IterBasedTrainLoop) and self.by_epoch:
            raise ValueError(
                'the checkpoint hook should save by iteration in an iteration-based loop, but got by_epoch=True: '
                'nothing would be saved before the end. Set by_epoch=False and an interval in iterations'
            )
        super().before_train(runner)
        self._forget_best_of_other_folders()
        self._remove_unfinished_files()
        if runner.iter:
            self._forget_beginning(runner)
        else:
            self._note_beginning(runner)
        self.file_backend = _KeepUntilReplaced()
        self._training = True

    def after_train(self, runner: Runner) -> None:
        """Publish what ``published_keys`` asks for; later validations save nothing."""
        super().after_train(runner)
        self._training = False

    def _check_epoch_boundary(self, runner: Runner) -> None:
        if not self.by_epoch:
            raise ValueError(
                'the checkpoint hook should save by epoch in an epoch-based loop, but got by_epoch=False: a resumed '
                'run would replay the interrupted epoch. Set by_epoch=True, or train with IterBasedTrainLoop'
            )
        iterations = len(runner.train_dataloader)
        if runner.iter != runner.epoch * iterations:
            raise ValueError(
                f'a resumed run should continue at the start of an epoch ({runner.epoch} epochs of {iterations} '
                f'iterations), but the checkpoint was saved after iteration {runner.iter}: it comes from the middle of '
                'an epoch, or from another batch size or number of processes. Resume with the settings it was trained '
                'with, or take only its weights with --cfg-options load_from=CHECKPOINT'
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._saving(runner):
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self._training:
            return
        with self._saving(runner):
            super()._save_best_checkpoint(runner, metrics)

    def _forget_best_of_other_folders(self) -> None:
        """Leave alone the best checkpoint of a run in another folder that this one goes on from."""
        single = getattr(self, 'best_ckpt_path', None)
        if single is not None:
            self.best_ckpt_path = self._own(single)
        several = getattr(self, 'best_ckpt_path_dict', {})
        several.update({name: path and self._own(path) for name, path in several.items()})

    def _own(self, path: str) -> str | None:
        own = Path(self.out_dir, Path(path).name)
        return str(own) if own.is_file() else None

    @contextmanager
    def _saving(self, runner: Runner) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            last = latest_checkpoint(runner.work_dir, self.out_dir, self.filename_tmpl)
            kept = f'the last good checkpoint is {last}' if last else 'there is no earlier one'
            reason = error.strerror or error
            raise OSError(
                error.errno, f'the checkpoint could not be saved: {reason}; {kept}. Make room and go on with --resume'
            ) from error
        self._remove_obsolete_files()
        self._forget_beginning(runner)

    @master_only
    def _note_beginning(self, runner: Runner) -> None:
        if latest_checkpoint(runner.work_dir, self.out_dir, self.filename_tmpl) is not None:
            Path(runner.work_dir, BEGAN_ANEW).touch()

    @master_only
    def _forget_beginning(self, runner: Runner) -> None:
        note = Path(runner.work_dir, BEGAN_ANEW)
        if note.exists():
            note.unlink()

    @master_only
    def _remove_unfinished_files(self) -> None:
        for path in Path(self.out_dir).glob(f'*.pth{TEMPORARY_SUFFIX}'):
            path.unlink()

    @master_only
    def _remove_obsolete_files(self) -> None:
        self.file_backend.remove_obsolete()
