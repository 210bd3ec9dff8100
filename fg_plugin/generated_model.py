"""The class of a converted network: the host's own class, with filters generated at each call."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, wraps
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from fg_plugin.conditioning import (
    Conditioning,
    conditioning_scope,
    current_conditioning,
    is_conditioned,
    is_running,
)
from fg_plugin.conv_selection import ConvRecord
from fg_plugin.generated_containers import GENERATOR, container_bases
from fg_plugin.generator import FilterGenerator
from fg_plugin.graph_tracing import is_traced, traced_scope
from fg_plugin.layer_lookup import layers_of
from fg_plugin.layers import FilterRepoConv
from fg_plugin.plain_checkpoints import accept_plain_weights_, generation_prefixes

# Methods of a host whose first argument is the image. In timm, other methods that begin with 'forward_' go on from the
# features that these return.
IMAGE_METHODS = ('forward', 'forward_features', 'forward_intermediates', 'get_intermediate_layers')

# The conditioning that feature tensors were computed with, so that forward_head(features) can be called alone.
_conditioning_of: WeakIdKeyDictionary = WeakIdKeyDictionary()


class Conversion(NamedTuple):
    """How a network was converted.

    Attributes:
        records: One record per ``nn.Conv2d`` it had.
        input_size: ``(C, H, W)`` of the input it was traced with.
    """

    records: list[ConvRecord]
    input_size: tuple[int, int, int]


class _GivesWay:
    """A method of converted networks that gives way to what the host has under its name.

    The package itself does not call it. No method can do so by itself: the children of a module are looked for last.
    """

    def __init__(self, method: Callable) -> None:
        self.method = method

    def __get__(self, model: nn.Module | None, cls: type | None = None) -> Any:
        if model is None:
            return self.method
        name = self.method.__name__
        for members in (model._modules, model._parameters, model._buffers):
            if name in members:
                return members[name]
        return MethodType(self.method, model)


class GeneratedModel(nn.Module):
    """What a converted network can do besides what its class could do before (see ``generated_class``)."""

    fg_generator: FilterGenerator
    fg_conversion: Conversion
    host_class: type[nn.Module]

    @_GivesWay
    def condition(self, images: Tensor) -> Conditioning:
        """Return the codes of ``images`` (B, C, H, W), normalised as the network's inputs are."""
        return _condition(self, images)

    @contextmanager
    def conditioned_on(self, images: Tensor) -> Iterator[None]:
        """Generate the filters from ``images`` instead of each forward's own input, until the end of the block.

        Args:
            images: ``(B, C, H, W)``, normalised as the network's inputs are: one image per input, or a single one
                whose filters all inputs share.
        """
        with conditioning_scope(_condition(self, images)):
            yield

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint of this network, or one of its host before the conversion.

        The host's checkpoint leaves the generator as it is. A layer with as many base filters as filters takes its
        filters: after ``init='preserve'``, they are the base filters and the coefficient head stays as it is; after
        ``init='orthogonal'``, the head is initialised to emit them. With M < N base filters, they are approximated.

        Raises:
            RuntimeError: If ``strict`` and the checkpoint is neither.
        """
        ours = generated_keys(self)
        # The host's own method may have no such option.
        options = {'assign': assign} if assign else {}
        if any(key in ours for key in state_dict):
            return super().load_state_dict(state_dict, strict, **options)
        loads: list[Any] = []
        handle = self.register_load_state_dict_post_hook(lambda _, keys: loads.append(keys))
        try:
            result = super().load_state_dict(state_dict, False, **options)
        except RuntimeError as error:
            # Of other shapes: it does not tell yet of keys that are missing or unknown.
            if strict and loads:
                _accept_plain(self, loads[-1], strict, error)
            raise
        finally:
            handle.remove()
        _accept_plain(self, result, strict)
        return result

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Copy and pickle by the host's class: this one is made at run time and cannot be found by name."""
        # In Python 3.10, only classes that define it have one.
        get_state: Callable[[], Any] | None = getattr(self, '__getstate__', None)
        return _restore, (self.host_class,), self.__dict__ if get_state is None else get_state()


def _accept_plain(model: GeneratedModel, keys: Any, strict: bool, shapes: RuntimeError | None = None) -> None:
    accept_plain_weights_(model, '', f'{GENERATOR}.', keys.missing_keys)
    if not strict or not (keys.missing_keys or keys.unexpected_keys):
        return
    others = '' if shapes is None else '; ' + str(shapes).partition('\n\t')[2].replace('\n\t', ' ').removesuffix('.')
    raise RuntimeError(
        f'The checkpoint should fit {model.host_class.__name__} with generated filters or without, but it has no key '
        f'of the former and differs from the latter: missing {_shorten(keys.missing_keys)}; unknown to the model '
        f'{_shorten(keys.unexpected_keys)}{others}.'
    ) from shapes


def _condition(model: GeneratedModel, images: Tensor) -> Conditioning:
    return Conditioning(model, model.fg_generator(images))


def check_names(model: nn.Module) -> None:
    """Check that ``model`` leaves the names free that its conversion needs.

    Raises:
        ValueError: If it has an attribute of such a name.
    """
    for name in ('conditioned_on', GENERATOR, 'fg_conversion', 'host_class'):
        if hasattr(model, name):
            raise ValueError(
                f"{type(model).__name__} should have no '{name}' of its own, because its conversion adds one. Rename "
                f'it, or convert the network as the child of another: nn.Sequential(network).'
            )


def _restore(host_class: type[nn.Module]) -> GeneratedModel:
    cls = generated_class(host_class)  # type: ignore[arg-type]
    return cls.__new__(cls)


def generated_keys(model: nn.Module) -> set[str]:
    """Return the keys of a converted network's state dict that its host does not have."""
    prefixes = generation_prefixes(model, '', f'{GENERATOR}.')
    return {key for key in model.state_dict() if key.startswith(prefixes)}


def _shorten(keys: list[str], shown: int = 5) -> str:
    more = f' and {len(keys) - shown} more' if len(keys) > shown else ''
    return (', '.join(keys[:shown]) or 'nothing') + more


@cache
def generated_class(host_class: type[nn.Module]) -> type[GeneratedModel]:
    """Return the subclass of ``host_class`` for its converted networks.

    Its instances stay instances of the host's class. Methods that take images generate the filters first, and run as
    before; ``forward_head`` and the like find the filters that their features were computed with.
    """
    namespace: dict[str, Any] = {'__module__': host_class.__module__, 'host_class': host_class}
    for name, value in vars(GeneratedModel).items():
        if isinstance(value, _GivesWay) and hasattr(host_class, name):
            namespace[name] = inspect.getattr_static(host_class, name)
    for name in dir(host_class):
        method = inspect.getattr_static(host_class, name)
        if not inspect.isfunction(method):
            continue
        if name in IMAGE_METHODS:
            first = _image_parameter(method)
            if first is not None:
                namespace[name] = _generates(method, first, remembers=name != 'forward')
        elif name.startswith('forward_'):
            namespace[name] = _goes_on(method)
        elif name == 'prune_intermediate_layers':
            namespace[name] = _prunes(method)
        elif name == 'set_input_size':
            namespace[name] = _measures(method)
        elif name == 'init_weights':
            namespace[name] = _initialises(method)
    return type(f'FG{host_class.__name__}', (GeneratedModel, *container_bases(host_class)), namespace)


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
    def generate(self: GeneratedModel, *args: Any, **kwargs: Any) -> Any:
        images: Any = args[0] if args else kwargs.get(first)
        if is_traced(images):
            with traced_scope(self, self.fg_generator, method, images):
                return method(self, *args, **kwargs)
        if is_running(self):
            return method(self, *args, **kwargs)
        if not isinstance(images, Tensor) or images.ndim != 4:
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"'{first}' should be images (B, C, H, W) to generate filters from, but got {shape}.")
        if is_conditioned(self, images.shape[0]):
            with _running_scope(current_conditioning()):
                return method(self, *args, **kwargs)
        conditioning = _condition(self, images)
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
    def go_on(self: GeneratedModel, *args: Any, **kwargs: Any) -> Any:
        conditioning = current_conditioning()
        if conditioning is None or conditioning.owner is not self:
            conditioning = _conditioning_for(self, (args, kwargs))
        with _running_scope(conditioning):
            return method(self, *args, **kwargs)

    return go_on


def _prunes(method: Callable) -> Callable:
    @wraps(method)
    def prune(self: GeneratedModel, *args: Any, **kwargs: Any) -> Any:
        out = method(self, *args, **kwargs)
        drop_unused_levels_(self, self.fg_generator)
        return out

    return prune


def _measures(method: Callable) -> Callable:
    signature = inspect.signature(method)

    @wraps(method)
    def measure(self: GeneratedModel, *args: Any, **kwargs: Any) -> Any:
        layers = layers_of(self)
        if signature.bind(self, *args, **kwargs).arguments.get('patch_size') is not None:
            _check_resampling(layers)
        # It may run a part of the network to see the shape of its output. The filters do not matter for it.
        image = self.fg_generator.input_mean.new_zeros(1, *self.fg_conversion.input_size)
        training = self.fg_generator.training
        self.fg_generator.eval()
        try:
            with torch.no_grad():
                conditioning = _condition(self, image)
        finally:
            self.fg_generator.train(training)
        with conditioning_scope(conditioning):
            out = method(self, *args, **kwargs)
        # For another patch size, it puts a plain convolution with the resampled base filters in the layer's place.
        for name, layer in layers.items():
            conv = self.get_submodule(name)
            if conv is not layer:
                self.set_submodule(name, layer.resampled(conv))  # type: ignore[arg-type]
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
    def init_weights(self: GeneratedModel, *args: Any, **kwargs: Any) -> Any:
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


def drop_unused_levels_(model: nn.Module, generator: FilterGenerator) -> None:
    """Leave no part of ``generator`` without a layer of ``model`` to drive: in training, it would get no gradient."""
    layers = layers_of(model).values()
    used = sorted({layer.level for layer in layers})
    if used and len(used) < len(generator.levels):
        generator.keep_(used)
        for layer in layers:
            layer.level = used.index(layer.level)


def _conditioning_for(model: GeneratedModel, features: Any) -> Conditioning | None:
    if torch.compiler.is_compiling():
        return None
    for leaf in tree_leaves(features):
        if isinstance(leaf, Tensor):
            conditioning = _conditioning_of.get(leaf)
            if conditioning is not None and conditioning.owner is model:
                return conditioning
    return None


def _running_scope(conditioning: Conditioning | None) -> AbstractContextManager:
    # Without converted convolutions behind the features, no filters are needed; with them, the layer says what is
    # missing.
    if conditioning is None:
        return nullcontext()
    return conditioning_scope(Conditioning(conditioning.owner, conditioning.codes, running=True))
