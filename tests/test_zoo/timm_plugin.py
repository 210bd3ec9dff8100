"""Runs timm's own model tests on converted networks: a plugin for pytest, not a test.

It replaces ``timm.create_model`` by one that creates and then calls ``fg_plugin.convert_``, before timm's unmodified
``tests/test_models.py`` (of the source distribution of the installed version) imports it::

    PYTHONPATH=tests pytest -p test_zoo.timm_plugin -c /dev/null TIMM/tests/test_models.py --smallest

Options:
    --plain: Leave ``timm.create_model`` as it is, for the base line.
    --smallest: Of the tests over the whole zoo, keep those of the smallest architecture of each model class and of
        timm's ``test_*`` architectures, with one pretrained tag each. Tests over a few chosen architectures stay.

Deselected, with ``--plain`` too, are tests that download weights, and tests that compile TorchScript. Tests of what a
converted network cannot do are expected to fail, for the reasons in ``EXPECTED``.
"""

import collections
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from test_zoo.smallest import SMALLEST
from torch import nn

import fg_plugin

DOWNLOADING = ('test_model_inference', 'test_model_load_pretrained', 'test_model_features_pretrained')
EXPECTED = {
    'test_nfnet_stem_feature_consistency': 'builds a new network from the parts of a converted one',
    'test_radio_checkpoint_filter': 'calls a part of a converted network by itself',
    'test_naflexvit_sapiens2_conversion': 'loads the weights of a converted network into one without convolutions',
    'test_vit_classifier_checkpoint': 'moves the weights of a converted network into a part of another, but the '
    'generator belongs to the whole',
    'test_feature_hook_net_grad_checkpointing_order': 'compares float32 outputs with and without gradients, which a '
    'layer may compute in another order: rounding, which statistics over batches of few pixels enlarge',
}
MARKERS = 'base forward backward cfg cfg_nonstd torchscript features fxforward fxbackward'

# A test over more architectures than this is one over the whole zoo.
CHOSEN = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--plain`` and ``--smallest``."""
    parser.addoption('--plain', action='store_true', help='do not convert')
    parser.addoption('--smallest', action='store_true', help='one architecture per model class')


def pytest_configure(config: pytest.Config) -> None:
    """Replace ``create_model`` before the tests are imported."""
    torch.set_num_threads(1)
    for marker in MARKERS.split():
        config.addinivalue_line('markers', marker)
    if not config.getoption('--plain'):
        timm.create_model = timm.models.create_model = _converting(timm.create_model)


def _converting(create_model: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    @functools.wraps(create_model)
    def create_and_convert(*args: Any, **kwargs: Any) -> nn.Module:
        model = create_model(*args, **kwargs)
        if any(isinstance(module, nn.Conv2d) for module in model.modules()):
            # With another patch size, some networks do not take inputs of the size in their configuration any more.
            resized = 'patch_size' in kwargs and 'img_size' not in kwargs
            fg_plugin.convert_(model, input_size=(3, 64, 64) if resized else None)
        return model

    return create_and_convert


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Choose the tests, and mark those that are expected to fail."""
    counts = collections.Counter(item.originalname for item in items)
    seen: set[tuple[str, str]] = set()
    kept, left_out = [], []
    for item in items:
        wanted = item.originalname not in DOWNLOADING and 'jit.script' not in _source(item.function)
        if wanted and config.getoption('--smallest') and counts[item.originalname] > CHOSEN:
            key = item.originalname, item.callspec.params['model_name'].split('.')[0]
            wanted = (key[1] in SMALLEST or key[1].startswith('test_')) and key not in seen
            seen.add(key)
        (kept if wanted else left_out).append(item)
        if item.originalname in EXPECTED and not config.getoption('--plain'):
            item.add_marker(pytest.mark.xfail(reason=EXPECTED[item.originalname], strict=False))
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@functools.cache
def _source(function: Callable) -> str:
    return inspect.getsource(function)
