"""Operations of the meta device that a sweep cannot afford, or that would falsify a count of memory."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_INITIALISERS = (Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_)


class LightMeta(TorchFunctionMode):
    """On the meta device, run some operations in other ways, of equal shapes and memory for the backward pass.

    - Attention keeps no attention maps, as on CPU and GPU. The meta device has only the separate matrix products, whose
      maps would make the host's memory look larger, and a ratio to it smaller, than they are.
    - Batch normalisation is one operation instead of twenty, which take half the time of a sweep.
    - Random numbers are not drawn for a parameter without values.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if func is F.scaled_dot_product_attention:
                return _attend(*args, **kwargs)
            if func is F.batch_norm:
                return _normalise(*args, **kwargs)
            if func in _INITIALISERS:
                return args[0]
        return func(*args, **kwargs)


def _normalise(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return _BatchNorm.apply(images, weight, bias, training)


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation on the meta device."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool) -> Tensor:
        statistics = images.new_empty(2, images.shape[1] if training else 0)
        ctx.save_for_backward(images, weight, statistics)
        return torch.empty_like(images)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise NotImplementedError('The meta device computes no gradients.')


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    fusable = query.ndim == 4 and query.shape[-1] == value.shape[-1] and query.shape[1] == key.shape[1]
    if not fusable or dropout_p or (attn_mask is not None and attn_mask.requires_grad):
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **options)
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=options.get('scale')
    )[0]
