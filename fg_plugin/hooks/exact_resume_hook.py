"""A resumed run ends where the uninterrupted one would, or does not start."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from math import gcd
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from fg_plugin.hooks.training_progress import training_progress
from fg_plugin.hooks.training_settings import changed_settings, training_settings
from fg_plugin.hooks.unwrapped_model import unwrapped_model

_GRADIENTS = 'pending_gradients'
_SETTINGS = 'training_settings'
_VALIDATED = 'is_validated'
_WAITING = 'early_stopping'
# MMEngine goes on with those of the checkpoint, whatever the config says.
_RESTORED = ('optim_wrapper.optimizer.', 'optim_wrapper.paramwise_cfg', 'param_scheduler')
# Lengths of schedules. A config may leave them out, so that those of the built schedules are compared.
_LENGTHS = ('end', 'T_max', 'total_iters')


class ResumeError(ValueError):
    """A checkpoint does not fit the run that it should continue."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Checks what an exact continuation depends on, and makes up for what the interruption cut off.

    - The number of processes and their batch size have to be those of the checkpoint.
    - So have to be the settings of the optimizer and of the learning rate's schedules, their lengths among them:
      MMEngine goes on with those of the checkpoint.
    - Other settings that differ from the checkpoint's, such as another precision, are named in a warning.
    - All processes have to start from the same checkpoint.
    - Gradients that are accumulated for a step (``accumulative_counts``) beyond a checkpoint are kept in it. Those of
      several processes are not, as each has its own: an epoch-based loop does not go on from such a checkpoint.
    - Where an ``EMAHook`` averaged the weights, there has to be one again: MMEngine would go on from the average.
    - The validation that follows the checkpoint is done first. The run may have been stopped in it, and the metrics of
      a last epoch would be lost. A schedule that follows a metric has no second step of it, and an
      ``EarlyStoppingHook`` goes on counting.

    Args:
        allow_other_processes: Accept another number of processes, if processes times batch size is the same. The
            batches hold the same images then, but the run is no longer equal bit for bit, and random numbers
            (augmentation, dropout) differ.

    Raises:
        ResumeError: Before training, if the run cannot go on from the checkpoint as it began.
    """

    # After all hooks that a validation needs to be ready.
    priority = 'LOWEST'

    def __init__(self, allow_other_processes: bool = False) -> None:
        self.allow_other_processes = allow_other_processes
        self._gradients: dict[str, Tensor] | None = None
        self._waiting: list[dict[str, float]] = []
        # Whether the training stands in a validation or after one.
        self._is_validated = False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Notes that the training goes on."""
        self._is_validated = False

    def before_val(self, runner: Runner) -> None:
        """Notes a validation."""
        self._is_validated = True

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds what ``after_load_checkpoint`` needs, such as the gradients that no step has used yet."""
        checkpoint['meta'].update(processes=runner.world_size, batch_size=_batch_size(runner))
        checkpoint['meta'][_VALIDATED] = self._is_validated
        checkpoint['meta'][_WAITING] = [
            {'wait_count': hook.wait_count, 'best_score': float(hook.best_score)} for hook in _early_stopping(runner)
        ]
        checkpoint['meta'][_SETTINGS] = training_settings(runner.cfg)
        pending = _awaits_step(runner)
        if 'optimizer' in checkpoint and not (pending and runner.world_size > 1):
            checkpoint[_GRADIENTS] = _gradients(runner) if pending else {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checks a checkpoint that is to be resumed."""
        if not runner._resume:
            return
        missing = [name for name in ('meta', 'message_hub', 'optimizer') if name not in checkpoint]
        if missing:
            raise ResumeError(
                f'a resumed run should continue from a checkpoint with the state of its training, but '
                f'{runner._load_from} has no {", ".join(map(repr, missing))}: it holds weights only. Start a new '
                f'training from them with --cfg-options load_from={runner._load_from}'
            )
        self._check_processes(runner, checkpoint['meta'])
        _check_schedules(runner, checkpoint.get('param_schedulers') or [])
        _check_settings(runner, checkpoint['meta'])
        if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise ResumeError(
                f'a resumed run should average its weights as that of its checkpoint, but got no EMAHook, and '
                f"{runner._load_from} holds their average beside the optimizer's state of the weights themselves. "
                f'Resume with the EMAHook, or start a new training from the average with --cfg-options '
                f'load_from={runner._load_from}'
            )
        self._is_validated = checkpoint['meta'].get(_VALIDATED, False)
        self._waiting = checkpoint['meta'].get(_WAITING, [])
        self._gradients = checkpoint.get(_GRADIENTS)

    def before_train(self, runner: Runner) -> None:
        """Checks that all processes go on from one place with all gradients, and does the validation due there."""
        places = all_gather_object((runner.epoch, runner.iter))
        if len(set(places)) > 1:
            raise ResumeError(
                'all processes should start from the same checkpoint, but those of rank 0, 1, ... found epoch and '
                f'iteration {places}: put --work-dir on a file system that all nodes share, or name the checkpoint '
                'with --resume CHECKPOINT'
            )
        if _awaits_step(runner):
            self._restore_gradients(runner)
        if runner.world_size > 1 and isinstance(runner.train_loop, EpochBasedTrainLoop):
            _warn_of_pending_gradients(runner)
        for hook, state in zip(_early_stopping(runner), self._waiting, strict=False):
            vars(hook).update(state)
        if runner.iter and runner.val_loop is not None and _is_validation_due(runner):
            runner.logger.info('validating the checkpoint that the run goes on from')
            if self._is_validated:
                with _without_a_step(runner):
                    runner.val_loop.run()
            else:
                runner.val_loop.run()

    def _restore_gradients(self, runner: Runner) -> None:
        if self._gradients is None:
            if not isinstance(runner.train_loop, EpochBasedTrainLoop):
                # Its random numbers differ from those of an uninterrupted run as well.
                return
            raise ResumeError(
                f'a resumed run should go on with the gradients that no step has used yet, but {runner._load_from} was '
                f'saved after iteration {runner.iter} without them, between two steps of '
                f'accumulative_counts={_accumulated(runner)} iterations: it is of several processes, each with its '
                f'own, or of an earlier version. Resume from {_resumable(runner)}, or take only the weights with '
                f'--cfg-options load_from={runner._load_from} instead of --resume'
            )
        parameters = dict(unwrapped_model(runner).named_parameters())
        for name, gradient in self._gradients.items():
            parameters[name].grad = gradient
        if self._gradients:
            # MMEngine, which does not know of them, has just warned that they are lost.
            runner.logger.info('the gradients that no step has used yet are restored: none is lost')
        self._gradients = None

    def _check_processes(self, runner: Runner, meta: dict) -> None:
        if 'processes' not in meta:
            return
        before, batch_before = meta['processes'], meta['batch_size']
        now, batch_now = runner.world_size, _batch_size(runner)
        if (before, batch_before) == (now, batch_now):
            return
        batch = before * batch_before
        if self.allow_other_processes and batch == now * batch_now:
            runner.logger.warning('resumed with another number of processes: equal up to rounding and random numbers')
            return
        way_out = ''
        if before != now and batch % now == 0:
            way_out = (
                f'. To go on with {_count(now)}, not bit for bit, use --allow-other-processes and --cfg-options '
                f'train_dataloader.batch_size={batch // now}'
            )
        raise ResumeError(
            f'a resumed run should have the number of processes and the batch size of its checkpoint, which are '
            f'{_count(before)} with a batch size of {batch_before}, but got {_count(now)} with {batch_now}. Resume '
            f'with --nproc_per_node={before} and train_dataloader.batch_size={batch_before}, or take only the weights '
            f'with --cfg-options load_from=CHECKPOINT instead of --resume{way_out}'
        )


def _check_schedules(runner: Runner, saved: Any) -> None:
    current = runner.param_schedulers
    if not (isinstance(saved, list) and isinstance(current, list)):
        return
    # Another number of schedules is MMEngine's to refuse.
    for scheduler, state in zip(current, saved, strict=False):
        for name in _LENGTHS:
            before, now = state.get(name), getattr(scheduler, name, None)
            if before != now:
                raise ResumeError(
                    f'a resumed run should have the schedules of its checkpoint, whose {type(scheduler).__name__} has '
                    f"{name}={before}, but got {now}, which MMEngine would replace by the checkpoint's: the new epochs "
                    f'would be trained with the rate of the last ones. Resume with the train_cfg of the checkpoint, or '
                    f'start a new training from its weights with --cfg-options load_from=CHECKPOINT'
                )


def _check_settings(runner: Runner, meta: dict) -> None:
    changed = changed_settings(meta[_SETTINGS], training_settings(runner.cfg)) if _SETTINGS in meta else {}
    lengths = {name for name in changed if name.startswith('param_scheduler') and name.rpartition('.')[2] in _LENGTHS}
    changed = {name: values for name, values in changed.items() if name not in lengths}
    ignored = [f'{name}={values}' for name, values in changed.items() if name.startswith(_RESTORED)]
    if ignored:
        raise ResumeError(
            f'a resumed run should have the optimizer and the schedules of its checkpoint, which MMEngine takes from '
            f'it, but got {"; ".join(ignored)}. Resume with the settings of the checkpoint, or start a new training '
            f'from its weights with --cfg-options load_from={runner._load_from}'
        )
    if changed:
        runner.logger.warning(
            'resumed with other settings, so that the run will not end where an uninterrupted one would: '
            + '; '.join(f'{name}={values}' for name, values in changed.items())
        )


def _count(processes: int) -> str:
    return f'{processes} process{"es" if processes > 1 else ""}'


def _batch_size(runner: Runner) -> int:
    return getattr(runner.train_dataloader.batch_sampler, 'batch_size', 1)


def _gradients(runner: Runner) -> dict[str, Tensor]:
    parameters = unwrapped_model(runner).named_parameters()
    return {name: parameter.grad.cpu() for name, parameter in parameters if parameter.grad is not None}


def _awaits_step(runner: Runner) -> bool:
    """Whether the iterations so far end between two steps of the optimizer."""
    wrapper = runner.optim_wrapper
    return isinstance(wrapper, OptimWrapper) and not wrapper.should_update()


def _accumulated(runner: Runner) -> int:
    return getattr(runner.optim_wrapper, '_accumulative_counts', 1)


def _resumable(runner: Runner) -> str:
    """Name the checkpoints of an epoch-based loop at which no gradients are pending."""
    accumulated = _accumulated(runner)
    epochs = accumulated // gcd(accumulated, len(runner.train_dataloader))
    return f'a checkpoint after a multiple of {epochs} epochs'


def _warn_of_pending_gradients(runner: Runner) -> None:
    accumulated, iterations = _accumulated(runner), len(runner.train_dataloader)
    if iterations % accumulated:
        runner.logger.warning(
            f'this training can be resumed only from {_resumable(runner)}, because the {iterations} iterations of an '
            f'epoch are no multiple of accumulative_counts={accumulated}, and the gradients of several processes are '
            'not saved: keep enough checkpoints (max_keep_ckpts)'
        )


def _early_stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


@contextmanager
def _without_a_step(runner: Runner) -> Iterator[None]:
    """Undo what the body changes in the schedules and the settings of the optimizer, such as its rate."""
    schedulers: Any = runner.param_schedulers or []
    if isinstance(schedulers, dict):
        schedulers = [scheduler for group in schedulers.values() for scheduler in group]
    states = [deepcopy(scheduler.state_dict()) for scheduler in schedulers]
    groups = [group for scheduler in schedulers for group in scheduler.optimizer.param_groups]
    settings = [{name: value for name, value in group.items() if name != 'params'} for group in groups]
    yield
    for scheduler, state in zip(schedulers, states, strict=True):
        scheduler.load_state_dict(state)
    for group, values in zip(groups, settings, strict=True):
        group.update(values)


def _is_validation_due(runner: Runner) -> bool:
    """Whether the training loop, where it stands, has just passed a point at which it validates."""
    step, last = training_progress(runner)
    loop: Any = runner.train_loop
    loop._decide_current_val_interval()
    return step >= loop.val_begin and (step % loop.val_interval == 0 or step == last)
