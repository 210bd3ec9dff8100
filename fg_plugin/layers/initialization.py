"""Initialisation that also serves parameter types ``torch.nn.init`` refuses."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def orthogonal_(tensor: Tensor) -> Tensor:
    """Fill ``tensor`` in place with a (semi-)orthogonal matrix over its flattened rows.

    ``nn.init.orthogonal_`` needs a QR decomposition, which no backend has in half precision: those are computed in
    float32. A meta tensor has no values to fill and is returned as it is.
    """
    if tensor.is_meta:
        return tensor
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.copy_(nn.init.orthogonal_(torch.empty_like(tensor, dtype=torch.float32)))
    return nn.init.orthogonal_(tensor)
