"""The architectures that a sweep checks."""

from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase

import timm
import torch
from torch import nn

from fg_plugin.sweep.light_meta import LightMeta
from fg_plugin.zoo import PREFIX, host_architecture


def choose_architectures(only: str | None = None) -> list[str]:
    """Return the names of the architectures behind the registered ``fg_*``, without the prefix.

    Args:
        only: A name or a pattern (``fnmatch``), with ``fg_`` or without; None for all.

    Raises:
        ValueError: If there is no such name (the closest are given), or the pattern matches none.
    """
    registered = [name.removeprefix(PREFIX) for name in timm.list_models(f'{PREFIX}*')]
    if only is None:
        return registered
    if not any(character in only for character in '*?['):
        return [host_architecture(only)]
    names = [name for name in registered if fnmatchcase(name, only.removeprefix(PREFIX))]
    if not names:
        raise ValueError(
            f"--only should match some of the {len(registered)} registered architectures, but '{only}' matches none."
        )
    return names


def smallest_of_each_class(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each model class of ``names`` and its architecture with the fewest parameters, sorted by the latter.

    Equally small ones are ordered by name. Every architecture is built, without memory for its parameters.
    """
    sizes = defaultdict(list)
    for name in names:
        model = build_on_meta(name)
        cls = f'{type(model).__module__}.{type(model).__qualname__}'
        sizes[cls].append((sum(parameter.numel() for parameter in model.parameters()), name))
    smallest = {cls: min(candidates) for cls, candidates in sizes.items()}
    for cls in sorted(smallest, key=lambda cls: smallest[cls]):
        yield cls, smallest[cls][1]


def build_on_meta(name: str, **options: object) -> nn.Module:
    """Build an architecture of timm without memory for its parameters."""
    with torch.device('meta'), LightMeta():
        return timm.create_model(name, **options)
