"""Refuses a checkpoint of another architecture."""

import re
from collections import OrderedDict

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from fg_plugin.hooks.unwrapped_model import unwrapped_model

_SHOWN = 5


class CheckpointMismatchError(ValueError):
    """A checkpoint does not fit the model."""


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Raises where the Runner would warn and go on with a half-loaded model.

    Applies to ``--resume``, ``load_from`` and testing. Whatever the model's own loading code remaps or fills in is
    accepted.

    Raises:
        CheckpointMismatchError: Names the keys that are missing, unexpected or of another shape.
    """

    # Before EMAHook, whose own loading fails without saying why.
    priority = 'HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the runner's model."""
        model = unwrapped_model(runner)
        load_strictly(model, checkpoint)


def load_strictly(model: nn.Module, checkpoint: dict) -> None:
    """Load ``checkpoint``, a state dict or a dict that holds one as ``'state_dict'``, into the whole of ``model``.

    Raises:
        CheckpointMismatchError: Names the keys that are missing, unexpected or of another shape.
    """
    given = checkpoint.get('state_dict', checkpoint)
    state_dict = OrderedDict((re.sub(r'^module\.', '', name), value) for name, value in given.items())
    # The versions of the modules' own loading code.
    state_dict._metadata = getattr(given, '_metadata', None)  # type: ignore[attr-defined]
    try:
        load_state_dict(model, state_dict, strict=True)
    except RuntimeError as error:
        raise CheckpointMismatchError(_describe(model.state_dict(), state_dict)) from error


def _describe(expected: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> str:
    other_shape = [
        f'{name} (model {tuple(expected[name].shape)}, checkpoint {tuple(given[name].shape)})'
        for name in expected.keys() & given.keys()
        if expected[name].shape != given[name].shape
    ]
    parts = {
        'missing in the checkpoint': sorted(expected.keys() - given.keys()),
        'unknown to the model': sorted(given.keys() - expected.keys()),
        'of another shape': sorted(other_shape),
    }
    differences = '; '.join(f'{kind}: {_list(names)}' for kind, names in parts.items() if names)
    return (
        f'the checkpoint should fit the model of the config, but it is of another architecture ({differences}). '
        'Use the config it was trained with, or train from the part that fits with tools/train.py --partial-load'
    )


def _list(names: list[str]) -> str:
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
