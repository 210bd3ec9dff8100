"""The model of a run."""

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


def unwrapped_model(runner: Runner) -> Any:
    """Return the model of ``runner`` without what distributes it, such as ``MMDistributedDataParallel``."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
