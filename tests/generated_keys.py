"""What the checkpoint of a converted network has and that of its host has not."""

from torch import nn


def generated_keys(model: nn.Module) -> set[str]:
    return {key for key in model.state_dict() if key.startswith('fg_generator.') or '.coefficient_head.' in key}
