"""Methods of a host that its converted networks have in another way: around them, filters are generated."""

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from fg_plugin.conditioning import (
    Conditioning,
    conditioning_of,
    conditioning_scope,
    given_conditioning,
    is_running,
)
from fg_plugin.graph_tracing import is_traced, traced_scope
from fg_plugin.layer_lookup import layers_of
from fg_plugin.layers import FilterRepoConv
from fg_plugin.unused_levels import drop_unused_levels_

if TYPE_CHECKING:
    from fg_plugin.generated_model import GeneratedModel

# Methods of a host whose first argument is the image. In timm, other methods that begin with 'forward_' go on from the
# features that these return.
IMAGE_METHODS = ('forward', 'forward_features', 'forward_intermediates', 'get_intermediate_layers')

# The conditioning that feature tensors were computed with, so that forward_head(features) can be called alone.
_conditioning_of: WeakIdKeyDictionary = WeakIdKeyDictionary()


def condition_on(model: 'GeneratedModel', images: Tensor) -> Conditioning:
    """Return the codes that ``model`` has for ``images`` (B, C, H, W)."""
    # A host may ask for them in its own forward, where the generator would take itself for one of its layers.
    with conditioning_scope(None) if is_running(model) else nullcontext():
        return Conditioning(model, model.fg_generator(images))


def methods_to_wrap(host_class: type[nn.Module]) -> tuple[tuple[str, Callable], ...]:
    """Return the methods of ``host_class`` that take images, go on from features or change the network, by name."""
    names = (name for name in dir(host_class) if name.startswith('forward_') or name in (*IMAGE_METHODS, *_CHANGES))
    methods = ((name, inspect.getattr_static(host_class, name)) for name in names)
    return tuple((name, method) for name, method in methods if inspect.isfunction(method))


def generating_methods(methods: Iterable[tuple[str, Callable]]) -> dict[str, Callable]:
    """Return what takes the place of the given methods of a host, by name.

    Methods that take images generate the filters first, and run as before. ``forward_head`` and the like find the
    filters that their features were computed with. Those that change the network keep the generation in step with it.
    """
    wrapped: dict[str, Callable] = {}
    for name, method in methods:
        if name in _CHANGES:
            wrapped[name] = _CHANGES[name](method)
        elif name not in IMAGE_METHODS:
            wrapped[name] = _goes_on(method)
        elif (first := _image_parameter(method)) is not None:
            wrapped[name] = _generates(method, first, remembers=name != 'forward')
    return wrapped


def _image_parameter(method: Callable) -> str | None:
    kinds = inspect.Parameter
    parameters = list(inspect.signature(method).parameters.values())
    # The first is the network itself, unless a decorator hides both behind *args.
    candidates = parameters[0 if parameters and parameters[0].kind is kinds.VAR_POSITIONAL else 1 :]
    if not candidates or candidates[0].kind in (kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD):
        return None
    return candidates[0].name


def _generates(method: Callable, first: str, remembers: bool) -> Callable:
    @wraps(method)
    def generate(self: 'GeneratedModel', *args: Any, **kwargs: Any) -> Any:
        images: Any = args[0] if args else kwargs.get(first)
        if is_traced(images):
            with traced_scope(self, self.fg_generator, method, images):
                return method(self, *args, **kwargs)
        if is_running(self):
            return method(self, *args, **kwargs)
        if not isinstance(images, Tensor) or images.ndim != 4:
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"'{first}' should be images (B, C, H, W) to generate filters from, but got {shape}.")
        given = given_conditioning(self, images.shape[0])
        if given is not None:
            with _running_scope(given):
                return method(self, *args, **kwargs)
        conditioning = condition_on(self, images)
        with _running_scope(conditioning):
            out = method(self, *args, **kwargs)
        if remembers and not torch.compiler.is_compiling():
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    _conditioning_of[leaf] = conditioning
        return out

    # torch.compile limits the graphs of one code object: the networks of all classes must not share this one.
    own: Any = generate
    own.__code__ = own.__code__.replace()
    return own


def _goes_on(method: Callable) -> Callable:
    @wraps(method)
    def go_on(self: 'GeneratedModel', *args: Any, **kwargs: Any) -> Any:
        features = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim]
        conditioning = conditioning_of(self)
        if conditioning is None:
            conditioning = _conditioning_for(self, features)
        elif features and not conditioning.running:
            given_conditioning(self, features[0].shape[0])
        with _running_scope(conditioning):
            return method(self, *args, **kwargs)

    return go_on


def _prunes(method: Callable) -> Callable:
    @wraps(method)
    def prune(self: 'GeneratedModel', *args: Any, **kwargs: Any) -> Any:
        out = method(self, *args, **kwargs)
        drop_unused_levels_(self, self.fg_generator)
        return out

    return prune


def _measures(method: Callable) -> Callable:
    signature = inspect.signature(method)

    @wraps(method)
    def measure(self: 'GeneratedModel', *args: Any, **kwargs: Any) -> Any:
        layers = layers_of(self)
        arguments = signature.bind(self, *args, **kwargs).arguments
        if arguments.get('patch_size') is not None:
            _check_resampling(layers)
        # It may run a part of the network to see the shape of its output. The filters do not matter for it.
        image = self.fg_generator.input_mean.new_zeros(1, *self.fg_conversion.input_size)
        with conditioning_scope(Conditioning(self, tuple(self.fg_generator.mean_codes([image])))):
            out = method(self, *args, **kwargs)
        # For another patch size, it puts a plain convolution with the resampled base filters in the layer's place.
        for name, layer in layers.items():
            conv = self.get_submodule(name)
            if conv is not layer:
                self.set_submodule(name, layer.resampled(conv))  # type: ignore[arg-type]
        size = arguments.get('img_size')
        if size is not None:
            height, width = (size, size) if isinstance(size, int) else size
            channels = self.fg_conversion.input_size[0]
            self.fg_conversion = self.fg_conversion._replace(input_size=(channels, height, width))
        return out

    return measure


def _check_resampling(layers: dict[str, FilterRepoConv]) -> None:
    for name, layer in layers.items():
        if 'patch_embed' in name.split('.') and layer.num_base_filters != layer.out_channels:
            raise ValueError(
                f"patch_size should be set before the conversion, because the network resamples '{name}' filter by "
                f'filter, but it has {layer.num_base_filters} base filters for {layer.out_channels} filters.'
            )


def _initialises(method: Callable) -> Callable:
    @wraps(method)
    def init_weights(self: 'GeneratedModel', *args: Any, **kwargs: Any) -> Any:
        layers = layers_of(self).values()
        loaded: list[bool] = []
        handles = [layer.register_load_state_dict_pre_hook(lambda *_: loaded.append(True)) for layer in layers]
        try:
            out = method(self, *args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        # The host initialises the linear layers of heads and generator like its own, unless it loads a checkpoint.
        if not loaded:
            for module in self.fg_generator.modules():
                reset: Any = getattr(module, 'reset_parameters', None)
                if reset is not None:
                    reset()
            for layer in layers:
                layer.reset_generation()
        return out

    return init_weights


def _conditioning_for(model: 'GeneratedModel', features: Iterable[Tensor]) -> Conditioning | None:
    if torch.compiler.is_compiling():
        return None
    for tensor in features:
        conditioning = _conditioning_of.get(tensor)
        if conditioning is not None and conditioning.owner is model:
            return conditioning
    return None


def _running_scope(conditioning: Conditioning | None) -> AbstractContextManager:
    # Without converted convolutions behind the features, no filters are needed; with them, the layer says what is
    # missing.
    if conditioning is None:
        return nullcontext()
    return conditioning_scope(Conditioning(conditioning.owner, conditioning.codes, running=True))


_CHANGES: dict[str, Callable[[Callable], Callable]] = {
    'prune_intermediate_layers': _prunes,
    'set_input_size': _measures,
    'init_weights': _initialises,
}
