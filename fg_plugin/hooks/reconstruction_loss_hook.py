"""Adds the reconstruction loss to the losses of a model of another package."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from fg_plugin.generator import pending_reconstruction_loss
from fg_plugin.hooks.unwrapped_model import unwrapped_model


@HOOKS.register_module()
class ReconstructionLossHook(Hook):
    """Trains any MMEngine model with ``L = L_rec + L_task`` (eq. 4), such as mmpretrain's ``ImageClassifier``.

    A model of another package does not know that its backbone generates filters. Where the backbone has a
    reconstruction weight, the loss dict that the model's ``forward`` returns gets one more term, ``loss_rec``.
    fg_plugin's own models have it anyway.
    """

    def before_train(self, runner: Runner) -> None:
        """Change what the model returns, also inside its data parallel wrapper."""
        model = unwrapped_model(runner)
        if _add_reconstruction_loss not in model._forward_hooks.values():
            model.register_forward_hook(_add_reconstruction_loss)


# A function of the module, not of this hook: copies of the model, such as the moving average of its weights, keep it.
def _add_reconstruction_loss(model: nn.Module, args: Any, losses: Any) -> Any:
    if not model.training or not isinstance(losses, dict):
        return None
    pending = pending_reconstruction_loss(model)
    return None if pending is None else {**losses, 'loss_rec': pending}
