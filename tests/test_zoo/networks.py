"""Small converted networks of many families of timm, with weights that let a wrong conditioning show."""

import copy
import functools
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fg_plugin import FilterRepoConv

# Side of the inputs, by architecture: each is the cheapest of its family, and some have a fixed size.
FAST = {
    'test_resnet': 64,
    'test_efficientnet': 64,
    'test_convnext': 64,
    'test_vit': 160,
    'test_nfnet': 64,
    'test_mambaout': 64,
    'test_byobnet': 64,
    'test_coatnet': 160,
    'tf_mobilenetv3_small_minimal_100': 64,
}
SLOW = {
    'coat_lite_tiny': 224,
    'crossvit_tiny_240': 240,
    'deit_tiny_distilled_patch16_224': 224,
    'densenet121': 64,
    'cs3darknet_focus_s': 64,
    'dla46x_c': 64,
    'edgenext_xx_small': 64,
    'efficientformerv2_s0': 224,
    'efficientvit_b0': 64,
    'efficientvit_m0': 224,
    'fastvit_t8': 64,
    'ghostnet_050': 64,
    'hgnetv2_b0': 64,
    'hrnet_w18_small': 64,
    'inception_next_atto': 64,
    'levit_conv_128s': 224,
    'mvitv2_tiny': 224,
    'pit_ti_224': 224,
    'poolformerv2_s12': 64,
    'pvt_v2_b0': 64,
    'regnetx_002': 64,
    'repghostnet_050': 64,
    'resnetv2_18': 64,
    'rexnet_100': 64,
    'shvit_s1': 64,
    'starnet_s050': 64,
    'swiftformer_xs': 224,
    'test_vit_relpos': 160,
    'tiny_vit_5m_224': 64,
    'twins_svt_small': 224,
    'xcit_nano_12_p16_224': 224,
}
SIDES = {**FAST, **SLOW}
NETWORKS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def make(name: str, **kwargs: Any) -> nn.Module:
    """Create ``fg_<name>`` in float64 and evaluation mode, and perturb it."""
    torch.manual_seed(0)
    return perturb_(timm.create_model(f'fg_{name}', **kwargs).double().eval())


@functools.lru_cache(maxsize=len(SIDES))
def _made(name: str) -> nn.Module:
    return make(name)


def copy_of(name: str) -> nn.Module:
    """Return a copy of ``make(name)``, faster."""
    return copy.deepcopy(_made(name))


def perturb_(model: nn.Module, scale: float = 0.1) -> nn.Module:
    """Move what hides the filters from the output: heads and the scales of branches, which often start from zero."""
    torch.manual_seed(1)
    heads = {
        parameter
        for module in model.modules()
        if isinstance(module, FilterRepoConv)
        for parameter in module.coefficient_head.parameters()
    }
    for parameter in model.parameters():
        if parameter in heads:
            parameter.data.add_(scale * torch.randn_like(parameter))
        elif parameter.numel() == max(parameter.shape, default=1):
            parameter.data.add_(0.3 * torch.rand_like(parameter))
    return model


def images(name: str, batch: int = 2, seed: int = 0, channels: int = 3) -> Tensor:
    """Return inputs for ``name``, normalised."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, SIDES[name], SIDES[name], generator=generator, dtype=torch.float64)


def assert_equal(actual: Any, expected: Any) -> None:
    """Compare all tensors in two outputs up to rounding in float64."""
    torch.testing.assert_close(tree_leaves(actual), tree_leaves(expected), rtol=1e-6, atol=1e-8)


def differ(one: Any, other: Any) -> list[bool]:
    """Return for each tensor in two outputs whether they are far from equal."""
    return [
        not torch.allclose(first, second, rtol=1e-4, atol=1e-6)
        for first, second in zip(tree_leaves(one), tree_leaves(other), strict=True)
    ]
