"""Compile the network, and nothing around it."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from fg_plugin.hooks.unwrapped_model import unwrapped_model


@HOOKS.register_module()
class CompileBackboneHook(Hook):
    """Train with ``torch.compile`` applied to the model's backbone.

    MMEngine's own ``compile`` setting (mmengine 0.10.7) compiles ``train_step`` with the optimizer in it: every new
    learning rate is compiled anew, until torch's limit is reached and the rest of the training runs uncompiled.

    Args:
        options: Arguments of ``torch.compile``, such as ``backend`` and ``mode``.

    Raises:
        ValueError: Before training, if the model has no backbone.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Compile the backbone in place; its parameters and its checkpoints stay as they are."""
        model = unwrapped_model(runner)
        if not hasattr(model, 'backbone'):
            raise ValueError(
                f'the model should have a backbone for CompileBackboneHook, but got {type(model).__name__}, which has '
                'none: leave the hook out, or name the network backbone'
            )
        model.backbone.compile(**self.options)
