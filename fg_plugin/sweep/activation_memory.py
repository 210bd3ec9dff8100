"""How much memory a training step keeps between forward and backward."""

from typing import Any

import torch
from torch import Tensor, nn

from fg_plugin.sweep.light_meta import LightMeta


def run_and_count(model: nn.Module, images: Tensor) -> tuple[Any, int]:
    """Run ``model`` on ``images`` as it is (in training or not) and count what it saves for the backward pass.

    Returns:
        The output, and the bytes of the distinct storages saved, without those of parameters and buffers.
    """
    known = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        # Kept alive until the end, so that no later storage takes the place of one that was counted.
        saved[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    with LightMeta(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(images)
    return out, sum(storage.nbytes() for key, storage in saved.items() if key not in known)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
