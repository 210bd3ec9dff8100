"""The networks that are compared: one built for each row of a study's table."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

import fg_plugin
from fg_plugin.macs import count_macs
from fg_plugin.studies.data import StudyData
from fg_plugin.studies.networks import (
    WIDTHS,
    Standardise,
    StemConditioned,
    StudyNet,
    UnitNorm,
    count_parameters,
    resized,
    with_condconv,
    with_input_codes,
)
from fg_plugin.studies.resnet import RESNET_WIDTHS, small_resnet18

# Channels and stride of each level: small, as the network is. Its thumbnail is the image, in a size that it can halve.
ENCODER = ((8, 2), (16, 2), (16, 2))
TOTAL_STRIDE = 8

PAPER = {'head': 'full', 'init': 'orthogonal', 'reconstruction_weight': 1.0}

# Static networks, and the widths of their stages, by the name of StudyData.network.
NETWORKS: dict[str, Callable[..., Any]] = {'plain': StudyNet, 'resnet18': small_resnet18}
NETWORK_WIDTHS = {'plain': WIDTHS, 'resnet18': RESNET_WIDTHS}

Build = Callable[[StudyData, nn.Module], nn.Module]


class Arm(NamedTuple):
    """A network, and how it is trained.

    Attributes:
        what: One line for the table.
        build: Makes it from scratch, or for ``warm`` from a trained static network.
        warm: Whether it goes on from the trained static network.
        head_lr: Factor of the learning rate of the heads.
        generator_lr: Factor of that of encoder, neck and decoder.
        head_decay: Whether the weights of what generates filters decay.
        network_lr: Factor of the learning rate of everything else.
        warm_up: Part of the training in which the learning rates of generator and heads rise to what they would be.
        networks: Static networks that it can be built from: names of ``NETWORKS``.
    """

    what: str
    build: Build
    warm: bool = False
    head_lr: float = 1.0
    generator_lr: float = 1.0
    head_decay: bool = True
    network_lr: float = 1.0
    warm_up: float = 0.0
    networks: tuple[str, ...] = tuple(NETWORKS)

    @property
    def generates(self) -> bool:
        """Whether it has generated filters."""
        return self.what.removeprefix('warm: ').startswith('FG')


def static(data: StudyData, **options: Any) -> nn.Module:
    """Build the static network for ``data``."""
    return NETWORKS[data.network](data.input_size[0], int(data.train.labels.max()) + 1, **options)


def _of_plain(arm: Callable[[StudyNet], nn.Module]) -> Build:
    def build(data: StudyData, net: nn.Module) -> nn.Module:
        if not isinstance(net, StudyNet):
            raise ValueError(
                f"{arm.__name__} should be given the network 'plain', whose blocks it knows, but got {data.network!r}."
            )
        return arm(net)

    return build


def generated(**options: Any) -> Build:
    """Return a function that converts a network by ``convert_`` with ``options``."""

    def build(data: StudyData, net: nn.Module) -> nn.Module:
        size = data.input_size
        fg_plugin.convert_(
            net,
            **{
                'encoder': ENCODER,
                'levels': 'depth',
                'image_size': -(-size[1] // TOTAL_STRIDE) * TOTAL_STRIDE,
                **options,
            },
            mean=data.mean,
            std=data.std,
            input_size=size,
        )
        return net

    return build


def with_layer_norm(build: Build) -> Build:
    """Normalise the codes of what ``build`` makes by a LayerNorm."""

    def normalised(data: StudyData, net: nn.Module) -> nn.Module:
        model: Any = build(data, net)
        for level, width in zip(model.fg_generator.neck.levels, model.fg_generator.neck.code_dims, strict=True):
            level.append(nn.LayerNorm(width))
        return model

    return normalised


def with_activation(build: Build, activation: Callable[[], nn.Module]) -> Build:
    """Put an activation on the sample's own part of the coefficients that ``build`` makes, its r numbers a layer."""

    def activated(data: StudyData, net: nn.Module) -> nn.Module:
        model = build(data, net)
        for layer in model.modules():
            if isinstance(layer, fg_plugin.FilterRepoConv):
                head: Any = layer.coefficient_head
                head.scale = nn.Sequential(head.scale, activation())
        return model

    return activated


def _as_large_as(arm: str, measure: Callable[[nn.Module, StudyData], int]) -> Build:
    def build(data: StudyData, net: nn.Module) -> nn.Module:
        target = measure(ARMS[arm].build(data, static(data)), data)
        widths = NETWORK_WIDTHS[data.network]
        return resized(lambda widths: static(data, widths=widths), widths, lambda model: measure(model, data), target)

    return build


def parameters(model: nn.Module, data: StudyData) -> int:
    """Return the number of parameters that inference needs."""
    decoder = getattr(getattr(getattr(model, 'fg_generator', None), 'autoencoder', None), 'decoder', None)
    return count_parameters(model) - (0 if decoder is None else count_parameters(decoder))


def macs(model: nn.Module, data: StudyData) -> int:
    """Return the multiply-accumulate operations of one image."""
    return count_macs(model, data.input_size, ()).total


RESIDUAL = {'head': 'residual', 'rank': 8, 'init': 'orthogonal'}
LOWRANK = {'head': 'lowrank', 'rank': 8, 'init': 'orthogonal'}
LOWRANK_STATIC = {'head': 'lowrank', 'rank': 8}

ARMS: dict[str, Arm] = {
    'static': Arm('static network', lambda data, net: net),
    'standardised': Arm('static, each image standardised', lambda data, net: nn.Sequential(Standardise(), net)),
    'se': Arm('+ SE', lambda data, net: static(data, attention=True)),
    'condconv': Arm('+ CondConv (4 kernels)', _of_plain(with_condconv), networks=('plain',)),
    'paper': Arm("FG, the paper's (full head, reconstruction)", generated(**PAPER)),
    'no_reconstruction': Arm('FG, full head, no reconstruction', generated(**{**PAPER, 'reconstruction_weight': 0.0})),
    'stem': Arm("FG, full head, codes from the network's first block", _of_plain(StemConditioned), networks=('plain',)),
    'input': Arm("FG, full head, codes from each layer's input", lambda data, net: with_input_codes(net)),
    'lowrank': Arm('FG, low rank (8), no reconstruction', generated(**LOWRANK)),
    'standardised_lowrank': Arm(
        'FG, low rank (8), each image standardised for its convolutions',
        lambda data, net: generated(**LOWRANK)(data, nn.Sequential(Standardise(), net)),
    ),
    'residual': Arm('FG, residual (8), no reconstruction', generated(**RESIDUAL)),
    'residual4': Arm('FG, residual (4), no reconstruction', generated(**{**RESIDUAL, 'rank': 4})),
    'quarter': Arm('FG, full head, M = N/4, reconstruction', generated(**PAPER, num_base_filters=0.25)),
    'quarter_static_start': Arm(
        'FG, full head, M = N/4, filters static at the start', generated(head='full', num_base_filters=0.25)
    ),
    'wide_parameters': Arm("static, as many parameters as the paper's FG", _as_large_as('paper', parameters)),
    'wide_macs': Arm("static, as many MACs as the paper's FG", _as_large_as('paper', macs)),
    'narrow_macs': Arm('static, as few MACs as M = N/4', _as_large_as('quarter', macs)),
    'wide_residual': Arm(
        'static, as many parameters as residual (8)', _as_large_as('residual_static_start', parameters)
    ),
    # What holds them back.
    'lowrank_static_start': Arm('FG, low rank, filters static at the start', generated(**LOWRANK_STATIC)),
    'lowrank_lr3': Arm(
        'FG, low rank, generator and heads at 3x the learning rate', generated(**LOWRANK), False, 3.0, 3.0
    ),
    'lowrank_lr03': Arm('FG, low rank, at 0.3x the learning rate', generated(**LOWRANK), False, 0.3, 0.3),
    'lowrank_no_decay': Arm('FG, low rank, no weight decay of the generator', generated(**LOWRANK), head_decay=False),
    'lowrank_layer_norm': Arm('FG, low rank, LayerNorm on the codes', with_layer_norm(generated(**LOWRANK))),
    'lowrank_tanh': Arm('FG, low rank, tanh on the coefficients', with_activation(generated(**LOWRANK), nn.Tanh)),
    'lowrank_softmax': Arm(
        'FG, low rank, softmax on the coefficients', with_activation(generated(**LOWRANK), lambda: nn.Softmax(dim=1))
    ),
    'lowrank_l2': Arm('FG, low rank, coefficients of L2 norm 1', with_activation(generated(**LOWRANK), UnitNorm)),
    'lowrank_rank2': Arm('FG, low rank (2)', generated(**{**LOWRANK, 'rank': 2})),
    'lowrank_rank32': Arm('FG, low rank (32)', generated(**{**LOWRANK, 'rank': 32})),
    'lowrank_reconstruction': Arm('FG, low rank, reconstruction', generated(**LOWRANK, reconstruction_weight=1.0)),
    'lowrank_resolution': Arm('FG, low rank, levels by resolution', generated(**LOWRANK, levels='resolution')),
    'residual_no_decay': Arm(
        'FG, residual (8), no weight decay of the generator', generated(**RESIDUAL), head_decay=False
    ),
    'full_no_decay': Arm(
        'FG, full head, no weight decay of the generator',
        generated(**{**PAPER, 'reconstruction_weight': 0.0}),
        head_decay=False,
    ),
    'full_static_start': Arm('FG, full head, filters static at the start', generated(head='full')),
    'residual_static_start': Arm('FG, residual (8), filters static at the start', generated(head='residual')),
    'residual4_static_start': Arm('FG, residual (4), filters static at the start', generated(head='residual', rank=4)),
    'lowrank_rank32_static_start': Arm(
        'FG, low rank (32), filters static at the start', generated(head='lowrank', rank=32)
    ),
    'lowrank_static_start_lr3': Arm(
        'FG, low rank, static at the start, generator and heads at 3x', generated(**LOWRANK_STATIC), False, 3.0, 3.0
    ),
    'lowrank_static_start_lr03': Arm(
        'FG, low rank, static at the start, at 0.3x', generated(**LOWRANK_STATIC), False, 0.3, 0.3
    ),
    'lowrank_static_start_heads10': Arm(
        'FG, low rank, static at the start, heads at 10x, generator at 0.1x',
        generated(**LOWRANK_STATIC),
        False,
        10.0,
        0.1,
    ),
    'lowrank_static_start_no_decay': Arm(
        'FG, low rank, static at the start, no weight decay of the generator',
        generated(**LOWRANK_STATIC),
        head_decay=False,
    ),
    'lowrank_static_start_layer_norm': Arm(
        'FG, low rank, static at the start, LayerNorm on the codes', with_layer_norm(generated(**LOWRANK_STATIC))
    ),
    'lowrank_static_start_tanh': Arm(
        'FG, low rank, static at the start, tanh on the coefficients',
        with_activation(generated(**LOWRANK_STATIC), nn.Tanh),
    ),
    'lowrank_static_start_warm_up': Arm(
        'FG, low rank, static at the start, generator and heads warmed up over half of the training',
        generated(**LOWRANK_STATIC),
        warm_up=0.5,
    ),
    'lowrank_warm_up': Arm(
        'FG, low rank, generator and heads warmed up over half of the training', generated(**LOWRANK), warm_up=0.5
    ),
    'standardised_lowrank_static_start': Arm(
        'FG, low rank, static at the start, each image standardised for its convolutions',
        lambda data, net: generated(**LOWRANK_STATIC)(data, nn.Sequential(Standardise(), net)),
    ),
    # Warm start.
    'warm_static': Arm('warm: static, trained on', lambda data, net: net, warm=True),
    'warm_static_lr3': Arm('warm: static, at 3x the learning rate', lambda data, net: net, warm=True, network_lr=3.0),
    'warm_static_lr03': Arm(
        'warm: static, at 0.3x the learning rate', lambda data, net: net, warm=True, network_lr=0.3
    ),
    'warm_lowrank': Arm('warm: FG, low rank', generated(), warm=True),
    'warm_lowrank_lr10': Arm('warm: FG, low rank, generator and heads at 10x', generated(), True, 10.0, 10.0),
    'warm_lowrank_heads10': Arm('warm: FG, low rank, heads at 10x, generator at 0.1x', generated(), True, 10.0, 0.1),
    'warm_residual': Arm('warm: FG, residual', generated(head='residual'), warm=True),
    'warm_residual_heads10': Arm(
        'warm: FG, residual, heads at 10x, generator at 0.1x', generated(head='residual'), True, 10.0, 0.1
    ),
    'warm_full': Arm('warm: FG, full head', generated(head='full'), warm=True),
    'warm_full_lr10': Arm('warm: FG, full head, generator and heads at 10x', generated(head='full'), True, 10.0, 10.0),
    'warm_full_slow_generator': Arm(
        'warm: FG, full head, generator at 0.1x', generated(head='full'), warm=True, generator_lr=0.1
    ),
    'warm_full_heads10': Arm(
        'warm: FG, full head, heads at 10x, generator at 0.1x', generated(head='full'), True, 10.0, 0.1
    ),
    'warm_full_no_decay': Arm(
        'warm: FG, full head, no weight decay of the generator', generated(head='full'), warm=True, head_decay=False
    ),
    'warm_full_reconstruction': Arm(
        'warm: FG, full head, reconstruction', generated(head='full', reconstruction_weight=1.0), warm=True
    ),
}

STUDIES: dict[str, tuple[str, ...]] = {
    'cost': (
        'static',
        'standardised',
        'se',
        'condconv',
        'paper',
        'no_reconstruction',
        'stem',
        'input',
        'lowrank',
        'standardised_lowrank',
        'residual',
        'residual4',
        'lowrank_static_start',
        'full_static_start',
        'residual_static_start',
        'residual4_static_start',
        'standardised_lowrank_static_start',
        'quarter',
        'quarter_static_start',
        'wide_parameters',
        'wide_macs',
        'narrow_macs',
        'wide_residual',
    ),
    'heads': (
        *('lowrank', 'residual', 'no_reconstruction'),
        *(name for name in ARMS if name.startswith(('lowrank_', 'residual_', 'full_'))),
    ),
    'warm': tuple(name for name in ARMS if name.startswith('warm_')),
}
