"""Keeps networks from fusing layers whose filters depend on the image."""

from functools import partial
from typing import NoReturn

from torch import nn

from fg_plugin.layers import FilterRepoConv

# Names under which timm's, OpenMMLab's and others' modules fuse or re-parameterise their convolutions. Most build a new
# convolution from the values of the old weight, which would be the base filters, and silently wrong.
FUSING_METHODS = ('fuse', 'reparameterize', 'switch_to_deploy', 'turn_on_efficient_conv_bn_eval')

# Where mmcv's ``ConvModule`` keeps the function that, in evaluation, convolves with the weight scaled by the batch
# normalisation instead of calling the convolution.
MMCV_FUSED_FORWARD = 'efficient_conv_bn_eval_forward'
_SAVED = f'fg_{MMCV_FUSED_FORWARD}'


def forbid_fusing_(model: nn.Module) -> None:
    """Make the fusing methods of all modules that hold generated filters raise, and mmcv's convolutions run unfused."""
    for name, module in model.named_modules():
        methods = [method for method in FUSING_METHODS if hasattr(module, method)]
        if methods and any(isinstance(part, FilterRepoConv) for part in module.modules()):
            for method in methods:
                module.__dict__[method] = partial(_refuse, name, method)
            fused_forward = getattr(module, MMCV_FUSED_FORWARD, None)
            if fused_forward is not None:
                module.__dict__[_SAVED] = fused_forward
                module.__dict__[MMCV_FUSED_FORWARD] = None


def allow_fusing_(model: nn.Module) -> None:
    """Undo ``forbid_fusing_``."""
    for module in model.modules():
        for method in FUSING_METHODS:
            refusal = module.__dict__.get(method)
            if isinstance(refusal, partial) and refusal.func is _refuse:
                del module.__dict__[method]
        if _SAVED in module.__dict__:
            module.__dict__[MMCV_FUSED_FORWARD] = module.__dict__.pop(_SAVED)


def _refuse(name: str, method: str, *args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError(
        f"'{name}' cannot {method} its convolutions: their filters are generated for each image. Fuse or "
        f're-parameterise the network before its conversion, or give it fixed filters first with fg_plugin.freeze_ or '
        f'fg_plugin.revert_.'
    )
