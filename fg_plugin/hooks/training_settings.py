"""The settings of a training, as plain text that a checkpoint can keep."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

# Where the data lie and how they are loaded changes no batch; ExactResumeHook checks the batch size itself.
_IRRELEVANT = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'batch_size', 'data_root')
_SECTIONS = ('model', 'optim_wrapper', 'param_scheduler', 'train_dataloader')


def training_settings(cfg: Config) -> dict[str, str]:
    """Return what a training depends on, each setting by its place in the config, such as ``'optim_wrapper.type'``."""
    sections = cfg.to_dict()
    return dict(_leaves({name: sections[name] for name in _SECTIONS if name in sections}))


def changed_settings(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that differ, by their place: ``'<now>, <before> in the checkpoint'``."""
    return {
        name: f'{now.get(name, "not set")}, {before.get(name, "not set")} in the checkpoint'
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    }


def _leaves(value: Any, place: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if key not in _IRRELEVANT:
                yield from _leaves(item, f'{place}.{key}' if place else str(key))
    else:
        # An object, such as a class, by its name: its text may hold an address.
        yield place, json.dumps(value, default=lambda thing: getattr(thing, '__qualname__', type(thing).__name__))
