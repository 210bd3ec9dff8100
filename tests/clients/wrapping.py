"""What the tests of all clients share: a wrapper around a backbone of the client, and how outputs are compared."""

import inspect
from typing import Any

import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from fg_plugin.layers import FilterRepoConv

IMAGE_SIZE = 64


def wrap(backbone: dict | nn.Module, **options: Any) -> dict:
    """Config of a wrapper around ``backbone``, with a small generator."""
    return dict(
        type='FGBackboneWrapper',
        backbone=backbone,
        autoencoder=dict(
            type='Autoencoder',
            in_channels=3,
            kernel_size=3,
            encoder=((8, 2), (16, 2), (16, 2)),
            decoder=('up', 8, 'up', 8, 'up'),
            norm='group',
        ),
        neck=dict(type='AEFeatureNeck', norm='group'),
        image_size=32,
        input_size=(3, IMAGE_SIZE, IMAGE_SIZE),
        **{'convert': dict(head='lowrank', rank=4), 'reconstruction_weight': 0, **options},
    )


def images(batch: int = 2) -> Tensor:
    """Images as a backbone sees them."""
    return torch.rand(batch, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def assert_same_features(wrapper: nn.Module, backbone: nn.Module) -> float:
    """Compare the feature maps in evaluation; return the largest relative difference."""
    for module in (wrapper, backbone):
        module.eval()  # returns nothing in some backbones
    features, expected = wrapper(images()), backbone(images())
    assert type(features) is type(expected)
    differences = [
        ((feature - other).abs().max() / other.abs().max()).item()
        for feature, other in zip(features, expected, strict=True)
    ]
    assert max(differences) <= 1e-5
    return max(differences)


def normalisations(module: nn.Module) -> list[nn.Module]:
    """The batch normalisations of a module."""
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def takes(cls: type, option: str) -> bool:
    """Whether the constructor of a backbone, or of one it passes the rest to, has an option."""
    for base in cls.__mro__:
        parameters = inspect.signature(base.__init__).parameters
        if option in parameters:
            return True
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False


def converted(wrapper: nn.Module) -> str:
    """How many of the convolutions have generated filters, as in ``'20/20'``."""
    assert sum(isinstance(part, FilterRepoConv) for part in wrapper.modules())
    return f'{sum(record.level is not None for record in wrapper.records)}/{len(wrapper.records)}'


def assert_trains(model: nn.Module, batch: dict) -> dict:
    """Train one step with MMEngine's optimizer wrapper; every trainable parameter should get a gradient."""
    optimizer = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)))
    seen: dict[str, bool] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            seen[name] = False
            parameter.register_hook(lambda _, name=name: seen.__setitem__(name, True))
    logged = model.train().train_step(batch, optimizer)
    assert torch.isfinite(logged['loss'])
    assert [name for name, reached in seen.items() if not reached and 'backbone' in name] == []
    return logged
