"""Converted networks that are containers: they list, run and edit the host's modules, and not the generator."""

from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from functools import wraps
from typing import Any

from torch import nn

GENERATOR = 'fg_generator'
"""Name of the generator among the children of a converted network."""


def add_generator_(model: nn.Module, generator: nn.Module) -> None:
    """Make ``generator`` the first child of ``model``: timm's adaptive gradient clipping spares the last parameters."""
    host_modules = dict(model._modules)
    model._modules.clear()
    model._modules[GENERATOR] = generator
    model._modules.update(host_modules)


def container_bases(host_class: type[nn.Module]) -> tuple[type[nn.Module], ...]:
    """Return the bases that make converted networks of ``host_class`` instances of it.

    The container comes behind a class that inherits from it, which may have methods of its own for the same purpose.
    """
    for base, container in _CONTAINERS.items():
        if host_class is base:
            return (container,)
        if issubclass(host_class, base):
            return (host_class, container)
    return (host_class,)


def _host_modules(container: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in container._modules.items() if name != GENERATOR}  # type: ignore[misc]


def _apart(method: Callable) -> Callable:
    """Let ``method``, which edits a container, meet it without the generator."""

    @wraps(method)
    def edit(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        generator = self._modules.pop(GENERATOR, None)
        try:
            return method(self, *args, **kwargs)
        finally:
            # Not there if another such method calls this one.
            if generator is not None:
                add_generator_(self, generator)

    return edit


class _Sequence(nn.Module):
    """What converted sequences have in common."""

    def __len__(self) -> int:
        return len(_host_modules(self))

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(_host_modules(self).values())


class _Sequential(_Sequence, nn.Sequential):
    def __getitem__(self, index: int | slice) -> Any:
        items = list(_host_modules(self).items())[index]
        return nn.Sequential(OrderedDict(items)) if isinstance(items, list) else items[1]

    __setitem__ = _apart(nn.Sequential.__setitem__)
    __delitem__ = _apart(nn.Sequential.__delitem__)
    __iadd__ = _apart(nn.Sequential.__iadd__)
    __imul__ = _apart(nn.Sequential.__imul__)
    append = _apart(nn.Sequential.append)
    insert = _apart(nn.Sequential.insert)
    extend = _apart(nn.Sequential.extend)


class _ModuleList(_Sequence, nn.ModuleList):
    def __getitem__(self, index: int | slice) -> Any:
        modules = list(self)[index]
        return nn.ModuleList(modules) if isinstance(modules, list) else modules

    __setitem__ = _apart(nn.ModuleList.__setitem__)
    __delitem__ = _apart(nn.ModuleList.__delitem__)
    __iadd__ = _apart(nn.ModuleList.__iadd__)
    append = _apart(nn.ModuleList.append)
    insert = _apart(nn.ModuleList.insert)
    extend = _apart(nn.ModuleList.extend)


class _ModuleDict(nn.ModuleDict):
    def __len__(self) -> int:
        return len(_host_modules(self))

    def __iter__(self) -> Iterator[str]:
        return iter(_host_modules(self))

    def __contains__(self, key: object) -> bool:
        return key in _host_modules(self)

    def __getitem__(self, key: str) -> nn.Module:
        return _host_modules(self)[key]

    def keys(self) -> KeysView[str]:
        return _host_modules(self).keys()

    def items(self) -> ItemsView[str, nn.Module]:
        return _host_modules(self).items()

    def values(self) -> ValuesView[nn.Module]:
        return _host_modules(self).values()

    __setitem__ = _apart(nn.ModuleDict.__setitem__)
    __delitem__ = _apart(nn.ModuleDict.__delitem__)
    clear = _apart(nn.ModuleDict.clear)


_CONTAINERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Sequential: _Sequential,
    nn.ModuleList: _ModuleList,
    nn.ModuleDict: _ModuleDict,
}
