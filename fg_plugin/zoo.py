"""Registers ``fg_<name>`` with timm for every architecture that has a convolution."""

import difflib
import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timm import models as timm_models
from timm.models import DefaultCfg, _factory, adapt_input_conv
from torch import Tensor, nn

from fg_plugin.convert import convert_
from fg_plugin.generated_model import GENERATOR
from fg_plugin.host_input import fit_channels

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

    Of a deprecated name, it is the current one. An architecture that was registered after ``import fg_plugin`` gets its
    ``fg_<name>`` here, at the latest.

    Raises:
        UnknownArchitectureError: If there is none (the closest names are given), or it has no convolution.
    """
    architecture = timm_models.get_arch_name(name).removeprefix(PREFIX)
    if architecture.startswith(PREFIX):
        raise UnknownArchitectureError(f"'{name}' should have the prefix '{PREFIX}' only once: {architecture}.")
    if not timm_models.is_model(architecture):
        closest = difflib.get_close_matches(architecture, timm_models.list_models(), n=3, cutoff=0.0)
        raise UnknownArchitectureError(
            f"'{name}' is no architecture of timm, with generated filters or without. Closest names: "
            f'{", ".join(closest)}.'
        )
    deprecated = timm_models.get_deprecated_models()
    if architecture in deprecated:
        current = deprecated[architecture]
        if current is None:
            raise UnknownArchitectureError(f"timm has removed '{architecture}' without a replacement.")
        return host_architecture(current)
    if architecture in _architectures_without_conv():
        raise UnknownArchitectureError(
            f"'{architecture}' has no nn.Conv2d, and so no filters to generate: it embeds patches by a linear layer."
        )
    _register(architecture)
    return architecture


def register_zoo() -> None:
    """Register the names, with the host's pretrained tags. Nothing is instantiated, and a second call does nothing.

    From then on, ``timm.create_model`` says more of an unknown ``fg_`` name than that it is unknown, and finds those of
    architectures that are registered later.
    """
    # The name by which create_model looks the function up: timm has no place for a reason of one's own.
    _factory.is_model = _is_model_or_reason  # type: ignore[assignment]
    without_conv = _architectures_without_conv()
    for name in timm_models.list_models():
        if not name.startswith(PREFIX) and name not in without_conv:
            _register(name)
    renamed: dict[str, str | None] = {
        PREFIX + old: PREFIX + new
        for old, new in timm_models.get_deprecated_models().items()
        if new and timm_models.is_model(PREFIX + new) and not timm_models.is_model(PREFIX + old)
    }
    timm_models.register_model_deprecations(__name__, renamed)


def __getattr__(name: str) -> Callable[..., nn.Module]:
    """Return an entrypoint, which timm expects to find in its module by its name."""
    if name.startswith(PREFIX) and timm_models.is_model(name):
        return timm_models.model_entrypoint(name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def _architectures_without_conv() -> set[str]:
    return {name for module in MODULES_WITHOUT_CONV for name in timm_models.list_models(module=module)}


def _register(name: str) -> None:
    if not timm_models.is_model(PREFIX + name):
        _copy_cfgs(name)
        timm_models.register_model(_entrypoint(name))


def _is_model_or_reason(name: str) -> bool:
    if name.startswith(PREFIX) and not timm_models.is_model(name):
        try:
            host_architecture(name)
        except UnknownArchitectureError as error:
            raise RuntimeError(f'Unknown model ({name}): {error}') from None
    return timm_models.is_model(name)


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
    _fit_saved_options_(options, kwargs)
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
    except RuntimeError as error:
        if GENERATOR in str(error):
            raise ValueError(
                f'The pretrained weights of {PREFIX}{name} should be those of {name}, but the given ones are those of '
                f'a network with generated filters. Load them by checkpoint_path, or as a folder of save_for_hf.'
            ) from error
        raise
    convert_(model, **options)
    if converted_weights:
        timm_models.load_pretrained(
            model,
            num_classes=getattr(model, 'num_classes', 0),
            in_chans=model.fg_generator.autoencoder.in_channels,
            filter_fn=_fit_generator_channels,
            cache_dir=kwargs.get('cache_dir'),
        )
    return model


def _fit_saved_options_(options: dict[str, Any], kwargs: Mapping[str, Any]) -> None:
    """Make what a folder or hub repository says of its inputs fit the ``in_chans`` that is asked for."""
    saved, channels = kwargs.get('pretrained_model_args') or {}, kwargs.get('in_chans')
    if channels is None:
        return
    for name, value in options.items():
        # The very object: timm fills in what was saved for what is not given.
        if value is not None and PREFIX + name in saved and value is saved[PREFIX + name]:
            if name == 'input_size':
                options[name] = (channels, *value[1:])
            elif name in ('mean', 'std'):
                options[name] = fit_channels(value, channels)


def _fit_generator_channels(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Change a saved generator as timm changes the network's first convolution for another number of channels."""
    prefix = f'{GENERATOR}.autoencoder'
    autoencoder: Any = model.get_submodule(prefix)
    first, channels = f'{prefix}.encoder.0.conv.weight', autoencoder.in_channels
    if first not in state_dict or state_dict[first].shape[1] == channels:
        return state_dict
    state_dict[first] = adapt_input_conv(channels, state_dict[first], base_chans=state_dict[first].shape[1])
    if autoencoder.decoder is not None:
        last = f'{prefix}.decoder.{len(autoencoder.decoder) - 1}'
        for name in (f'{last}.weight', f'{last}.bias'):
            mean = state_dict[name].mean(0, keepdim=True)
            state_dict[name] = mean.repeat(channels, *[1] * (mean.ndim - 1))
    return state_dict


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
