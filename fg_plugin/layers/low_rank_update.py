"""The update of low rank on the maps of the base filters, with a backward that need not keep these maps."""

from typing import Any

import torch
from torch import Tensor

from fg_plugin.layers.combining import combine, is_channels_last


def update_(maps: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add ``U V maps`` to ``maps`` in place.

    Two products and as few views as possible: after a convolution has been through the caches, each further operation
    costs several times what a benchmark of it alone tells.

    Args:
        maps: ``(B, N, H', W')``, contiguous or channels_last.
        left: ``U``, ``(B, N, r)``.
        right: ``V``, ``(r, N)``.

    Returns:
        ``V maps``, ``(B, r, H' W')``, in the memory format of the maps.
    """
    batch, channels, height, width = maps.shape
    if left.dtype != maps.dtype or right.dtype != maps.dtype:
        left, right = left.to(maps.dtype), right.to(maps.dtype)
    if is_channels_last(maps):
        pixels = maps.permute(0, 2, 3, 1).view(-1, channels)
        projected = (pixels @ right.T).view(batch, height * width, len(right))
        pixels.view(batch, height * width, channels).baddbmm_(projected, left.mT)
        return projected.mT
    columns = maps.view(batch, channels, height * width)
    projected = torch.bmm(right.expand(batch, -1, -1), columns)
    columns.baddbmm_(left, projected)
    return projected


class LowRankUpdate(torch.autograd.Function):
    """Compute ``maps + U V maps`` for ``maps = x * filters``, a convolution common to the batch.

    Autograd would keep the maps for the gradient of ``V``, beside the output that the next layer keeps: twice the
    memory of an ordinary convolution. But that gradient, ``sum g maps^T`` with ``r`` maps ``g``, is also the weight
    gradient of a convolution of ``x`` by ``r`` filters, times the filters. The maps are kept only where they are
    smaller than the filters, and are otherwise overwritten with the output.

    It can be differentiated once: ``create_graph=True`` raises.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        x: Tensor,
        filters: Tensor,
        geometry: tuple[tuple[int, int], ...],
        left: Tensor,
        right: Tensor,
    ) -> Tensor:
        """Compute the output ``(B, N, H', W')``.

        Args:
            ctx: For ``backward``.
            maps: ``(B, N, H', W')``, contiguous or channels_last.
            x: The convolution's input ``(B, C, H, W)``. Its gradient, and that of ``filters``, goes through ``maps``.
            filters: ``(N, C, kh, kw)``.
            geometry: Stride, padding and dilation of the convolution.
            left: ``U``, ``(B, N, r)``.
            right: ``V``, ``(r, N)``.
        """
        keeps_maps = maps.numel() <= filters.numel()
        out = maps.clone() if keeps_maps else maps
        projected = update_(out, left, right)
        if keeps_maps:
            ctx.save_for_backward(left, right, projected, maps)
        else:
            ctx.mark_dirty(maps)
            ctx.save_for_backward(left, right, projected, x, filters)
        ctx.geometry = geometry
        ctx.memory_format = torch.channels_last if is_channels_last(out) else torch.contiguous_format
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``maps``, ``left`` and ``right``.

        Raises:
            RuntimeError: If the gradient is to be differentiated again, or is a batch of gradients.
        """
        # Not once_differentiable: it drops the second derivative in silence where ``gradient`` is a constant.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "A generated-filter layer with a 'lowrank' or 'residual' head should be differentiated once, but got "
                'create_graph=True. For gradients of gradients, set the attribute path of each FilterRepoConv to '
                "'materialised'."
            )
        if torch._C._functorch.is_legacy_batchedtensor(gradient):
            raise RuntimeError(
                "A generated-filter layer with a 'lowrank' or 'residual' head should get one gradient at a time, but "
                'got a batch of them (is_grads_batched=True, vectorize=True). Use torch.func (jacrev, vmap), or set '
                "the attribute path of each FilterRepoConv to 'materialised'."
            )
        left, right, projected, *kept = ctx.saved_tensors
        dtype = projected.dtype
        gradient = gradient.contiguous(memory_format=ctx.memory_format)
        of_projected = combine(gradient, left.mT.to(dtype))
        of_maps = combine(of_projected, right.T.to(dtype), gradient)
        of_left = torch.bmm(gradient.flatten(2), projected.mT)
        if len(kept) == 1:
            of_right = torch.bmm(of_projected.flatten(2), kept[0].flatten(2).mT).sum(0)
        else:
            of_right = _products_with_maps(of_projected, *kept, *ctx.geometry)
        return of_maps, None, None, None, of_left.to(left.dtype), of_right.to(right.dtype)


def _products_with_maps(
    gradient: Tensor,
    x: Tensor,
    filters: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Return the inner products ``(r, N)`` of ``gradient`` (B, r, H', W') with the maps ``x * filters``."""
    x, filters = x.to(gradient.dtype), filters.to(gradient.dtype)
    only_weight = (False, True, False)
    _, by_position, _ = torch.ops.aten.convolution_backward(
        gradient, x, filters[: gradient.shape[1]], None, stride, padding, dilation, False, (0, 0), 1, only_weight
    )
    if is_channels_last(filters):
        filters, by_position = filters.permute(0, 2, 3, 1), by_position.permute(0, 2, 3, 1)
    return by_position.flatten(1) @ filters.flatten(1).T
