"""The class of a converted network: the host's own class, with filters generated at each call."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, wraps
from types import MethodType
from typing import Any, NamedTuple, NoReturn

from torch import Tensor, nn

from fg_plugin.conditioning import Conditioning, conditioning_of, conditioning_scope, is_running
from fg_plugin.conv_selection import ConvRecord
from fg_plugin.generated_containers import GENERATOR, container_bases
from fg_plugin.generated_methods import condition_on, generating_methods, methods_to_wrap
from fg_plugin.generator import FilterGenerator
from fg_plugin.plain_checkpoints import accept_plain_weights_, generation_prefixes
from fg_plugin.sharding import gathered


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
        return condition_on(self, images)

    @contextmanager
    def conditioned_on(self, images: Tensor) -> Iterator[None]:
        """Generate the filters from ``images`` instead of each forward's own input, until the end of the block.

        It holds for forwards in the same thread; others take the filters of their own input.

        Args:
            images: ``(B, C, H, W)``, normalised as the network's inputs are: one image per input, or a single one
                whose filters all inputs share.

        Raises:
            RuntimeError: If the network is sharded (``fully_shard``): with gradients, or where a module around it was
                sharded and not the network itself.
        """
        # Its own forward has gathered them.
        with nullcontext() if is_running(self) else gathered(self, self.fg_generator):
            conditioning = condition_on(self, images)
        with conditioning_scope(conditioning):
            yield

    def _replicate_for_data_parallel(self) -> Any:
        """Refuse what would not reach the replicas, which run in threads of their own, or not come back from them."""
        if conditioning_of(self) is not None:
            raise RuntimeError(
                'conditioned_on does not reach the replicas of nn.DataParallel. Call the network itself inside, or use '
                'DistributedDataParallel.'
            )
        if self.training and self.fg_generator.reconstruction_weight > 0:
            raise RuntimeError(
                'nn.DataParallel loses the reconstruction loss, which stays in its replicas. Use '
                'DistributedDataParallel, or convert with reconstruction_weight=0.'
            )
        return super()._replicate_for_data_parallel()

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Leave out the generator while the host's own forward runs, which may run its children in turn."""
        children = super().named_children()
        return (child for child in children if child[0] != GENERATOR) if is_running(self) else children

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint of this network, or one of its host before the conversion.

        The host's checkpoint leaves the generator as it is. A layer with as many base filters as filters takes its
        filters: after ``init='preserve'``, they are the base filters and the coefficient head stays as it is; after
        ``init='orthogonal'``, the head is initialised to emit them. With M < N base filters, they are approximated.

        Raises:
            RuntimeError: If ``strict`` and the checkpoint is neither.
        """
        ours = generation_prefixes(self, '', f'{GENERATOR}.')
        # The host's own method may have no such option.
        options = {'assign': assign} if assign else {}
        if any(key.startswith(ours) for key in state_dict):
            return super().load_state_dict(state_dict, strict, **options)
        loads: list[Any] = []
        self.__dict__[_OWN_LOAD] = True
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
            self.__dict__.pop(_OWN_LOAD, None)
        # Not what the host's own method may have returned instead.
        for keys in loads:
            _accept_plain(self, keys, strict)
        return result

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Notice plain weights where ``load_state_dict`` is not called: in a larger network's, and by MMEngine."""
        ours = generation_prefixes(self, prefix, f'{prefix}{GENERATOR}.')
        keys = [key for key in state_dict if key.startswith(prefix)] if _OWN_LOAD not in self.__dict__ else []
        plain = bool(keys) and not any(key.startswith(ours) for key in keys)
        self.__dict__[_PLAIN_PREFIX] = prefix if plain else None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Copy and pickle by the host's class: this one is made at run time and cannot be found by name."""
        # In Python 3.10, only classes that define it have one.
        get_state: Callable[[], Any] | None = getattr(self, '__getstate__', None)
        return _restore, (self.host_class,), self.__dict__ if get_state is None else get_state()


_PLAIN_PREFIX = 'fg_plain_prefix'
_OWN_LOAD = 'fg_own_load'


def accept_plain_part(model: nn.Module, keys: Any) -> None:
    """After the parameters of ``model`` were loaded with those of a larger network: accept plain weights."""
    prefix = model.__dict__.pop(_PLAIN_PREFIX, None)
    if prefix is not None:
        accept_plain_weights_(model, prefix, f'{prefix}{GENERATOR}.', keys.missing_keys)


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
    cls = generated_class(host_class)
    return cls.__new__(cls)


def _shorten(keys: list[str], shown: int = 5) -> str:
    more = f' and {len(keys) - shown} more' if len(keys) > shown else ''
    return (', '.join(keys[:shown]) or 'nothing') + more


def generated_class(host_class: type[nn.Module]) -> type[GeneratedModel]:
    """Return the subclass of ``host_class`` for its converted networks.

    Its instances stay instances of the host's class. Methods that take images generate the filters first, and run as
    before; ``forward_head`` and the like find the filters that their features were computed with. While the methods of
    ``host_class`` stay the same, there is one such class.
    """
    return _generated_class(host_class, methods_to_wrap(host_class))  # type: ignore[arg-type]


@cache
def _generated_class(host_class: type[nn.Module], methods: tuple[tuple[str, Callable], ...]) -> type[GeneratedModel]:
    namespace: dict[str, Any] = {'__module__': host_class.__module__, 'host_class': host_class}
    for name, value in vars(GeneratedModel).items():
        if isinstance(value, _GivesWay) and hasattr(host_class, name):
            namespace[name] = inspect.getattr_static(host_class, name)
    namespace.update(generating_methods(methods), __init__=_refusal(host_class))
    return type(f'FG{host_class.__name__}', (GeneratedModel, *container_bases(host_class)), namespace)


def _refusal(host_class: type[nn.Module]) -> Callable:
    # With the signature of the host, which others may ask for.
    @wraps(host_class.__init__)
    def refuse(self: GeneratedModel, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f'The class of a converted {host_class.__name__} should not be called, because it would make one without a '
            f'generator. Copy the network by copy.deepcopy, or build a {host_class.__name__} and convert that by '
            f'fg_plugin.convert_.'
        )

    return refuse
