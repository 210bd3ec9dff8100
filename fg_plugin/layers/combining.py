"""Products of maps ``(B, M, H, W)`` with coefficients, in the memory format of the maps."""

import torch
from torch import Tensor


def combine(maps: Tensor, weight: Tensor, static: Tensor | None = None, overwrite: bool = False) -> Tensor:
    """Combine maps ``(B, M, H, W)`` with coefficients ``(B, N, M)``, keeping the memory format of the maps.

    Args:
        maps: The maps.
        weight: The coefficients; ``(N, M)`` serve all samples.
        static: ``(B, N, H, W)`` to add in the same pass over the output.
        overwrite: Write the output over ``static``.
    """
    if is_channels_last(maps):
        pixels, weight = maps.permute(0, 2, 3, 1), weight.transpose(-2, -1)
        if static is None and weight.ndim == 2:
            # ``@`` on three dimensions would decide by the batch size how to fold them, which ties a graph to it.
            combined = pixels.reshape(-1, maps.shape[1]) @ weight
            return combined.view(*pixels.shape[:3], combined.shape[1]).permute(0, 3, 1, 2)
        rows = pixels.flatten(1, 2)
        if static is None:
            combined = torch.bmm(rows, weight)
        else:
            weight = weight.expand(rows.shape[0], -1, -1)
            combined = _add(static.permute(0, 2, 3, 1).flatten(1, 2), rows, weight, overwrite)
        return combined.unflatten(1, maps.shape[2:]).permute(0, 3, 1, 2)
    columns = maps.flatten(2)
    # For a matrix common to all samples, ``@`` would transpose the maps to fold the batch into their rows.
    weight = weight.expand(columns.shape[0], -1, -1)
    combined = torch.bmm(weight, columns) if static is None else _add(static.flatten(2), weight, columns, overwrite)
    return combined.view(*combined.shape[:2], *maps.shape[2:])


def is_channels_last(maps: Tensor) -> bool:
    """Return whether ``maps`` are in channels_last format and not in the contiguous one as well."""
    # Inside of torch.func.vmap, a tensor does not tell its format.
    if torch._C._are_functorch_transforms_active():
        return False
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def _add(static: Tensor, left: Tensor, right: Tensor, overwrite: bool) -> Tensor:
    return static.baddbmm_(left, right) if overwrite else torch.baddbmm(static, left, right)
