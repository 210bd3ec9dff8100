"""Finds the order in which a network folds parts of its samples into the batch of a convolution.

``FilterRepoConv`` gives each sample's filters to consecutive entries of the batch. Windows, heads and patches are
usually folded in this order; a network that stacks its batch view by view would get the filters of other samples,
silently.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fg_plugin.conv_trace import TRACE_BATCH, ConvCall, conv_input
from fg_plugin.quiet_run import quiet_run


def disordered_convs(
    model: nn.Module, input_size: tuple[int, int, int], calls: Mapping[nn.Module, ConvCall]
) -> dict[nn.Module, str]:
    """Return why convolutions cannot take filters of each sample, for those whose batch is not sample by sample.

    One sample of two is NaN, as are all entries of a batch that are computed from it. This takes a forward on the CPU,
    up to the last call of these convolutions.

    Args:
        model: Any image model. It is left as it is, on any device, and its own hooks do not run.
        input_size: ``(C, H, W)`` of one input image.
        calls: What the convolutions to look at saw in the trace.
    """
    ordered: dict[nn.Module, bool] = {}
    remaining = sum(len(call.in_shapes) for call in calls.values())

    def look(conv: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        nonlocal remaining
        first, second = conv_input(args, kwargs).isnan().chunk(2)
        ordered[conv] = ordered.get(conv, True) and bool(second.any()) and not first.any()
        remaining -= 1
        if not remaining:
            raise _Seen

    cause = ''
    try:
        with quiet_run(model), torch.device('cpu'):
            dtype = _replace_values_(model)
            for conv in calls:
                conv.register_forward_pre_hook(look, with_kwargs=True)
            images = torch.full((2, *input_size), 0.5, dtype=dtype)
            images[1] = torch.nan
            model(images)
    except _Seen:
        pass
    except Exception as error:
        cause = f' ({type(error).__name__}: {error})'
    reasons = {}
    for conv, call in calls.items():
        if not ordered.get(conv):
            rows = max(shape[0] for shape in call.in_shapes) // TRACE_BATCH
            order = f'in an unknown order{cause}' if conv not in ordered else 'which are not next to each other'
            reasons[conv] = f'its batch holds {rows} rows per sample, {order}'
    return reasons


class _Seen(Exception):
    """The last call of interest has been seen."""


def _replace_values_(model: nn.Module) -> torch.dtype:
    """Give ``model`` tensors on the CPU that keep activations finite, and return their floating-point type.

    The order does not depend on values, and those of the model may be on the meta device or not initialised yet. All
    filters average their inputs here. Without memory of their own, the tensors cost nothing.
    """
    dtype = torch.float64 if next(model.parameters()).dtype == torch.float64 else torch.float32
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                value = 1 / max(1, parameter[:1].numel()) if parameter.ndim > 1 else 1
                module._parameters[name] = nn.Parameter(_constant(parameter, value, dtype), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _finite_buffer(buffer, dtype)
    return dtype


def _constant(like: Tensor, value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype if like.is_floating_point() else like.dtype).expand(like.shape)


def _finite_buffer(buffer: Tensor, dtype: torch.dtype) -> Tensor:
    if not buffer.is_floating_point():
        return torch.zeros_like(buffer, device='cpu') if buffer.is_meta else buffer.cpu()
    if buffer.is_meta or not buffer.isfinite().all():
        return torch.ones_like(buffer, device='cpu', dtype=dtype)
    return buffer.to('cpu', dtype)
