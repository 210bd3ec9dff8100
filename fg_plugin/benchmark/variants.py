"""The alternatives that the layer benchmark compares for one convolution."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from timm.layers.cond_conv2d import CondConv2d
from torch import Tensor, nn

from fg_plugin.benchmark.geometries import Geometry, Setting
from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.layers import FilterRepoConv, compute_paths
from fg_plugin.layers.coefficient_heads import FullHead
from fg_plugin.layers.coefficients import Coefficients
from fg_plugin.layers.compute_paths import PATHS, ConvArguments
from fg_plugin.layers.routed_cond_conv import NUM_EXPERTS

CODE_DIM = 64
RANK = 8

# A path with this many times the multiplications of the ordinary convolution is not run: no machine would choose it,
# and its maps (for a depthwise layer: C times the output) may not fit into memory.
MAX_MACS_RATIO = 8.0


class HeadSpec(NamedTuple):
    """A head and the size of its repository.

    Attributes:
        name: As the report calls it.
        head: ``'full'`` or ``'lowrank'``.
        repository_divisor: M = max(1, N // repository_divisor).
    """

    name: str
    head: str
    repository_divisor: int


HEAD_SPECS = (HeadSpec('full', 'full', 1), HeadSpec('quarter', 'full', 4), HeadSpec('lowrank', 'lowrank', 1))


class Variant(NamedTuple):
    """One alternative.

    Attributes:
        forward: Computes the output from the input.
        leaves: The tensors that get gradients in training, apart from the input.
    """

    forward: Callable[[Tensor], Tensor]
    leaves: Sequence[Tensor]


class Comparison(NamedTuple):
    """All alternatives for one setting.

    Attributes:
        x: The input, ``(B, C, H, W)``.
        variants: By name: ``'conv'``, ``'condconv'``, and for each head ``'<head>/<path>'`` and ``'<head>/layer'``.
        chosen: For each head, the path that the cost model chooses in inference and in training.
        skipped: For each variant that is not run, why.
    """

    x: Tensor
    variants: dict[str, Variant]
    chosen: dict[str, dict[str, str]]
    skipped: dict[str, str]


def compare(setting: Setting) -> Comparison:
    """Build all alternatives for one setting.

    ``'<head>/<path>'`` starts from given coefficients, as CondConv2d starts from given routing weights.
    ``'<head>/layer'`` is the whole ``FilterRepoConv`` with ``path='auto'``, its head and the choice included.
    """
    geometry, batch, channels_last = setting
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(0)
    x = torch.randn(batch, geometry.in_channels, geometry.size, geometry.size)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    conv = nn.Conv2d(**_conv_arguments(geometry)).to(memory_format=memory_format)
    condconv = CondConv2d(**_conv_arguments(geometry), num_experts=NUM_EXPERTS)
    routing = torch.rand(batch, NUM_EXPERTS, requires_grad=True)
    comparison = Comparison(x, {}, {}, {})
    comparison.variants['conv'] = Variant(conv, list(conv.parameters()))
    comparison.variants['condconv'] = Variant(lambda x: condconv(x, routing), [routing, *condconv.parameters()])
    for spec in HEAD_SPECS:
        layer = FilterRepoConv(
            **_conv_arguments(geometry),
            code_dim=CODE_DIM,
            head=spec.head,
            rank=RANK,
            num_base_filters=max(1, geometry.out_channels // spec.repository_divisor),
        ).to(memory_format=memory_format)
        _add_head(comparison, spec, layer, batch)
    return comparison


def _add_head(comparison: Comparison, spec: HeadSpec, layer: FilterRepoConv, batch: int) -> None:
    codes = torch.randn(batch, CODE_DIM, requires_grad=True)
    conv = layer._split_padding()[1]
    for path in PATHS:
        ratio = macs_ratio(layer, path)
        if ratio < MAX_MACS_RATIO:
            comparison.variants[f'{spec.name}/{path}'] = _path_variant(layer, path, codes, conv)
        else:
            comparison.skipped[f'{spec.name}/{path}'] = f'{ratio:.0f} times the multiplications of nn.Conv2d'
    comparison.variants[f'{spec.name}/shared'] = _path_variant(layer, 'shared', codes[:1].detach(), conv)
    comparison.variants[f'{spec.name}/layer'] = Variant(
        lambda x: _run_layer(layer, x, codes), [codes, *layer.parameters()]
    )
    comparison.chosen[spec.name] = {
        mode: chosen_path(layer, comparison.x, codes, mode) for mode in ('inference', 'training')
    }


def chosen_path(layer: FilterRepoConv, x: Tensor, codes: Tensor, mode: str) -> str:
    """Return the path that ``layer`` takes for ``x`` with ``path='auto'`` in a mode."""
    with torch.set_grad_enabled(mode == 'training'):
        return layer._plan(x, len(codes)).path


def macs_ratio(layer: FilterRepoConv, path: str) -> float:
    """Return how many times the multiplications of the ordinary convolution the convolutions of a path make."""
    if path != 'factored':
        return 1.0
    if not isinstance(layer.coefficient_head, FullHead):
        return 1 + layer.groups * len(layer.coefficient_head.right) / layer.out_channels
    return layer.groups * layer.num_base_filters / layer.out_channels


def _path_variant(layer: FilterRepoConv, path: str, codes: Tensor, conv: ConvArguments) -> Variant:
    with torch.no_grad():
        coefficients = layer.coefficient_head(codes)
    given: Coefficients = type(coefficients)(
        *(None if part is None else part.detach().clone().requires_grad_() for part in coefficients)
    )
    function = getattr(compute_paths, path)
    return Variant(
        lambda x: function(x, layer.weight, given, conv), [layer.weight, *(part for part in given if part is not None)]
    )


def _run_layer(layer: FilterRepoConv, x: Tensor, codes: Tensor) -> Tensor:
    with conditioning_scope(Conditioning(layer, (codes,))):
        return layer(x)


def _conv_arguments(geometry: Geometry) -> dict:
    return {
        'in_channels': geometry.in_channels,
        'out_channels': geometry.out_channels,
        'kernel_size': geometry.kernel_size,
        'stride': geometry.stride,
        'padding': geometry.kernel_size // 2 if geometry.padding is None else geometry.padding,
        'groups': geometry.groups,
        'bias': False,
    }


def calls(comparison: Comparison, mode: str) -> dict[str, Callable[[], object]]:
    """Return each variant's call: a forward in ``'inference'``, a forward and a backward in ``'training'``."""
    x = comparison.x
    if mode == 'inference':
        return {name: _inference_call(variant, x) for name, variant in comparison.variants.items()}
    with torch.no_grad():
        out_gradient = torch.randn_like(comparison.variants['conv'].forward(x))
    return {name: _training_call(variant, x, out_gradient) for name, variant in comparison.variants.items()}


def _inference_call(variant: Variant, x: Tensor) -> Callable[[], object]:
    def call() -> Tensor:
        with torch.no_grad():
            return variant.forward(x)

    return call


def _training_call(variant: Variant, x: Tensor, out_gradient: Tensor) -> Callable[[], object]:
    def call() -> Sequence[Tensor]:
        return torch.autograd.grad(variant.forward(x), [x, *variant.leaves], out_gradient)

    return call
