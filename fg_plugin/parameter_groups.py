"""Learning rates for trained weights that get generated filters."""

from collections.abc import Collection
from fnmatch import fnmatch
from typing import Any

from torch import nn

from fg_plugin.generator import FilterGenerator
from fg_plugin.layer_lookup import layers_of


def param_groups(
    model: nn.Module,
    lr: float,
    *,
    head_lr: float = 10.0,
    generator_lr: float = 0.1,
    weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer that fine-tunes a network of trained weights.

    Right after a conversion, heads that are zero pass no gradient to the generator, and at one learning rate for all
    the filters stay nearly static. The default multiples are those that gained most over the plain network in
    RESULTS.md (warm start): measured with AdamW and full heads, on layers of 16 to 128 filters.

    Args:
        model: A converted network, or one with an ``FGBackboneWrapper``, before ``DistributedDataParallel`` wraps it.
        lr: Learning rate of the network's own parameters and of the base filters.
        head_lr: That of the heads, which turn codes into coefficients, as a multiple of ``lr``.
        generator_lr: That of the autoencoder and the neck, likewise.
        weight_decay: Decay of weights; biases, normalisations and what the network's ``no_weight_decay`` names get
            none. If it is left out, the groups leave the decay to the optimizer.

    Returns:
        Groups with ``params``, ``lr`` and, unless it was left out, ``weight_decay``. Frozen parameters are in none.

    Raises:
        ValueError: If ``model`` has no generated filters.
    """
    layers = layers_of(model)
    if not layers:
        raise ValueError(
            f'model should have generated filters, but got a {type(model).__name__} without any. Convert it first, by '
            f'fg_plugin.convert_ or timm.create_model("fg_...").'
        )
    generators = [module for module in model.modules() if isinstance(module, FilterGenerator)]
    multiples = {parameter: generator_lr for generator in generators for parameter in generator.parameters()}
    multiples |= {parameter: head_lr for layer in layers.values() for parameter in layer.coefficient_head.parameters()}
    exempt = _exempt_from_decay(model)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = (
                weight_decay is not None
                and parameter.ndim > 1
                and not name.endswith('.bias')
                and not any(fnmatch(name, pattern) for pattern in exempt)
            )
            groups.setdefault((multiples.get(parameter, 1.0), decays), []).append(parameter)
    return [
        {'params': parameters, 'lr': multiple * lr}
        | ({} if weight_decay is None else {'weight_decay': weight_decay if decays else 0.0})
        for (multiple, decays), parameters in groups.items()
    ]


def _exempt_from_decay(module: nn.Module, prefix: str = '') -> list[str]:
    """Return what ``no_weight_decay`` names, of the outermost modules that have it: a wrapper's host is inside."""
    # Of the class: a wrapper hands on what its backbone has, whose names lack the prefix.
    if hasattr(type(module), 'no_weight_decay'):
        names: Collection[str] = module.no_weight_decay()  # type: ignore[operator]
        return [prefix + name for name in names]
    return [
        name
        for child_name, child in module.named_children()
        for name in _exempt_from_decay(child, f'{prefix}{child_name}.')
    ]
