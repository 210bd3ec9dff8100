"""How far a training is."""

from mmengine.runner import IterBasedTrainLoop, Runner


def training_progress(runner: Runner) -> tuple[int, int]:
    """Return the epochs that are done and those of the whole training; iterations in an iteration-based loop."""
    # Such a loop stays in epoch 0.
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.iter, runner.max_iters
    return runner.epoch, runner.max_epochs
