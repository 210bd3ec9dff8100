"""The architectures that a sweep checks."""

from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import timm
import torch
from torch import nn

from fg_plugin.sweep.light_meta import LightMeta
from fg_plugin.sweep.record import Record
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


def measure_size(name: str, facts: dict[str, Any]) -> Iterable[str]:
    """Fill ``facts`` with the ``model_class`` of an architecture and its number of ``parameters``."""
    model = build_on_meta(name)
    facts.update(
        model_class=f'{type(model).__module__}.{type(model).__qualname__}',
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return ()


def smallest_of_each_class(sizes: Iterable[Record]) -> list[str]:
    """Return the architecture with the fewest parameters of each model class, smallest first.

    Equally small ones are ordered by name.

    Args:
        sizes: Records of ``measure_size``.

    Raises:
        ValueError: If one of them failed.
    """
    candidates = defaultdict(list)
    for record in sizes:
        if 'model_class' not in record.facts:
            raise ValueError(
                f'The size of {record.architecture} should be known, but measuring it failed '
                f'({"; ".join(record.failures) or "no cause is kept"}): remove its line from sizes.jsonl, and run '
                f'"python tools/zoo_sweep.py values" again.'
            )
        candidates[record.facts['model_class']].append((record.facts['parameters'], record.architecture))
    return [name for _, name in sorted(min(of_class) for of_class in candidates.values())]


def build_on_meta(name: str, **options: Any) -> nn.Module:
    """Build an architecture of timm without memory for its parameters."""
    with torch.device('meta'), LightMeta():
        return timm.create_model(name, **options)
