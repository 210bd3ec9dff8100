"""Networks that keep what they compute from the size of their input."""

from collections import defaultdict
from functools import cache, lru_cache
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fg_plugin

INPUT = dict(mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 16, 16))


@lru_cache
def cached_grid(height, width):
    return torch.linspace(0, 1, height * width).view(height, width)


@cache
def cached_grids(height, width):
    return {'grids': (cached_grid.__wrapped__(height, width),)}


class Host(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        return self.conv2(self.conv1(x) + self.grid(*x.shape[2:]))


class InAFunction(Host):
    def grid(self, height, width):
        return cached_grid(height, width)


class InsideOfAFunctionsValue(Host):
    def grid(self, height, width):
        return cached_grids(height, width)['grids'][0]


class InAMethod(Host):
    @lru_cache  # noqa: B019
    def grid(self, height, width):
        return cached_grid.__wrapped__(height, width)


class InNestedContainers(Host):
    def __init__(self):
        super().__init__()
        self.kept = {'grids': [defaultdict(dict)]}

    def grid(self, height, width):
        grids = self.kept['grids'][0][height]
        if width not in grids:
            grids[width] = cached_grid.__wrapped__(height, width)
        return grids[width]


class InAnObject(Host):
    def __init__(self):
        super().__init__()
        self.kept = [SimpleNamespace(grid=None, by_size={})]

    def grid(self, height, width):
        kept = self.kept[0]
        if kept.grid is None:
            kept.grid = kept.by_size[height, width] = cached_grid.__wrapped__(height, width)
        return kept.grid + kept.by_size[height, width]


class DecidesByValues(InAFunction):
    def forward(self, x):
        out = super().forward(x)
        return out if out.sum() > 0 else -out


HOSTS = [InAFunction, InsideOfAFunctionsValue, InAMethod, InNestedContainers, InAnObject, DecidesByValues]


@pytest.mark.parametrize('run', [fg_plugin.report, fg_plugin.convert_])
@pytest.mark.parametrize('host', HOSTS)
def test_run_on_values_after_the_run_on_shapes(host, run):
    cached_grid.cache_clear()
    model, x = host().eval(), torch.rand(2, *INPUT['input_size'])
    run(model, **INPUT)
    out = model(x)
    assert type(out) is torch.Tensor
    torch.testing.assert_close(out, host().eval()(x))


def test_keep_what_they_had_before():
    model = InNestedContainers()
    model(torch.rand(2, *INPUT['input_size']))
    (grids,) = model.kept['grids']
    kept = grids[16][16]
    fg_plugin.convert_(model, **INPUT)
    assert model.kept['grids'] == [grids]
    assert grids[16][16] is kept


KEPT = {}


class InAGlobalVariable(Host):
    def grid(self, height, width):
        if (height, width) not in KEPT:
            KEPT[height, width] = cached_grid.__wrapped__(height, width)
        return KEPT[height, width]


def test_are_refused_where_nothing_can_take_it_back():
    model = InAGlobalVariable()
    with pytest.raises(ValueError, match=r'in attributes of its modules, but .* keeps a tensor of shape \(16, 16\)'):
        fg_plugin.convert_(model, **INPUT)
    assert type(model) is InAGlobalVariable
    KEPT.clear()
    # What is there before is no matter.
    model(torch.rand(2, *INPUT['input_size']))
    fg_plugin.convert_(model, **INPUT)
