"""Registers ``fg_<name>`` with timm for every architecture that has a convolution."""

import difflib
import inspect
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm import models as timm_models
from timm.models import DefaultCfg, _factory
from torch import nn

from fg_plugin.convert import convert_

PREFIX = 'fg_'

# timm's modules whose networks have no nn.Conv2d at all: they embed patches by a linear layer.
MODULES_WITHOUT_CONV = ('gemma4_vit', 'naflexvit')

# What timm's register_model finds next to the entrypoints of a module.
default_cfgs: dict[str, DefaultCfg] = {}

_OPTIONS = tuple(
    name
    for name, parameter in inspect.signature(convert_).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
)


class UnknownArchitectureError(ValueError):
    """A name is no architecture of timm, or one without generated filters."""


def host_architecture(name: str) -> str:
    """Return the timm architecture behind ``name``, such as ``'resnet18'``, ``'fg_resnet18'`` or with a tag.

    Raises:
        UnknownArchitectureError: If there is none (the closest names are given), or it has no convolution.
    """
    architecture = timm_models.get_arch_name(name).removeprefix(PREFIX)
    if not timm_models.is_model(architecture):
        closest = difflib.get_close_matches(architecture, timm_models.list_models(), n=3, cutoff=0.0)
        raise UnknownArchitectureError(
            f"'{name}' is no architecture of timm, with generated filters or without. Closest names: "
            f'{", ".join(closest)}.'
        )
    if not timm_models.is_model(PREFIX + architecture):
        raise UnknownArchitectureError(
            f"'{architecture}' has no nn.Conv2d, and so no filters to generate: it embeds patches by a linear layer."
        )
    return architecture


def register_zoo() -> None:
    """Register the names, with the host's pretrained tags. Nothing is instantiated, and a second call does nothing.

    From then on, ``timm.create_model`` says more of an unknown ``fg_`` name than that it is unknown.
    """
    # The name by which create_model looks the function up: timm has no place for a reason of one's own.
    _factory.is_model = _is_model_or_reason  # type: ignore[assignment]
    without_conv = {name for module in MODULES_WITHOUT_CONV for name in timm_models.list_models(module=module)}
    for name in timm_models.list_models():
        if name.startswith(PREFIX) or name in without_conv or timm_models.is_model(PREFIX + name):
            continue
        _copy_cfgs(name)
        timm_models.register_model(_entrypoint(name))


def _is_model_or_reason(name: str) -> bool:
    known = timm_models.is_model(name)
    if not known and name.startswith(PREFIX):
        try:
            host_architecture(name)
        except UnknownArchitectureError as error:
            raise RuntimeError(f'Unknown model ({name}): {error}') from None
    return known


def _copy_cfgs(name: str) -> None:
    cfgs = timm_models.get_arch_pretrained_cfgs(name)
    tags = {timm_models.split_model_name_tag(tagged)[1]: cfg for tagged, cfg in cfgs.items()}
    default = timm_models.get_pretrained_cfg(name, allow_unregistered=True)
    if default is None:
        return
    tags.setdefault(default.tag or '', default)
    order = sorted(tags, key=lambda tag: tag != (default.tag or ''))
    default_cfgs[PREFIX + name] = DefaultCfg(
        tags=deque(order), cfgs=tags, is_pretrained=any(cfg.has_weights for cfg in tags.values())
    )


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(name, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = PREFIX + name
    create.__module__ = __name__
    create.__doc__ = f'{name} with generated filters: its own arguments, and those of ``convert_`` as ``fg_<option>``.'
    return create


def _create(name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    options = _take_options(kwargs)
    cfg = kwargs.get('pretrained_cfg')
    # A folder or hub repository written by save_for_hf from a converted network: its weights fit after the conversion.
    source = cfg.get('source') if isinstance(cfg, dict) else getattr(cfg, 'source', None)
    converted_weights = pretrained and source in ('local-dir', 'hf-hub')
    if converted_weights and kwargs.get('features_only'):
        raise ValueError(
            f'features_only should be used with the weights of {name}, but got those of a saved {PREFIX}{name}, which '
            f'hold more than its features. Create the whole network, and call forward_intermediates.'
        )
    try:
        model = timm_models.model_entrypoint(name)(pretrained=pretrained and not converted_weights, **kwargs)
    except (AssertionError, IndexError) as error:
        if kwargs.get('features_only'):
            _check_out_indices(name, kwargs.get('out_indices'), error)
        raise
    convert_(model, **options)
    if converted_weights:
        timm_models.load_pretrained(
            model,
            num_classes=getattr(model, 'num_classes', 0),
            in_chans=model.fg_generator.autoencoder.in_channels,
            cache_dir=kwargs.get('cache_dir'),
        )
    return model


def _check_out_indices(name: str, out_indices: int | Sequence[int] | None, cause: Exception) -> None:
    with torch.device('meta'):
        count = len(getattr(timm_models.model_entrypoint(name)(), 'feature_info', ()))
    indices = [-out_indices] if isinstance(out_indices, int) else out_indices or ()
    if not all(-count <= index < count for index in indices):
        raise ValueError(
            f'out_indices should be in [-{count}, {count}) for the {count} feature maps of {name}, but got '
            f'{out_indices}.'
        ) from cause


def _take_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    options = {key: kwargs.pop(key) for key in list(kwargs) if key.startswith(PREFIX)}
    unknown = [key for key in options if key.removeprefix(PREFIX) not in _OPTIONS]
    if unknown:
        raise TypeError(
            f"'{unknown[0]}' is no option of generated filters. They are: "
            f'{", ".join(PREFIX + option for option in _OPTIONS)}.'
        )
    return {key.removeprefix(PREFIX): value for key, value in options.items()}
