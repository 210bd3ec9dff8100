"""Converted networks that list their children: edited like the host, whatever is done to them."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from fg_plugin import convert_, revert_
from fg_plugin.generated_model import GENERATOR

HOST = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), input_size=(3, 32, 32))


def sequential():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


class Stages(nn.ModuleList):
    def forward(self, x):
        for module in self:
            x = module(x)
        return x


class Named(nn.ModuleDict):
    def forward(self, x):
        for module in self.values():
            x = module(x)
        return x


def stages():
    return Stages(sequential())


def named():
    return Named({f'layer{name}': module for name, module in sequential().named_children()})


def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def delete_last(net):
    del net[-1]


def delete_slice(net):
    del net[3:]


def pop(net):
    assert isinstance(net.pop(-1), nn.Linear)


def replace_last(net):
    net[-1] = nn.Linear(4, 3)


def append_and_replace(net):
    net.append(nn.Linear(5, 4))
    net[-1] = nn.Linear(5, 3)


def append_and_delete(net):
    net.append(nn.Linear(5, 4))
    del net[-1]


def insert(net):
    net.insert(1, nn.BatchNorm2d(4))


def insert_at_the_end(net):
    net.insert(len(net), nn.Linear(5, 2))


def extend(net):
    net.extend([nn.Linear(5, 5), nn.Linear(5, 2)])


def add_in_place(net):
    net += nn.Sequential(nn.Linear(5, 5), nn.ReLU())


EDITS = [
    delete_last,
    delete_slice,
    pop,
    replace_last,
    append_and_replace,
    append_and_delete,
    insert,
    insert_at_the_end,
    extend,
    add_in_place,
]


@pytest.mark.parametrize('build', [sequential, stages])
@pytest.mark.parametrize('edit', EDITS)
def test_edits_of_a_sequence(build, edit):
    plain, model = build().eval(), build().eval()
    convert_(model, **HOST)
    generator = model.fg_generator
    torch.manual_seed(1)
    edit(plain)
    torch.manual_seed(1)
    edit(model)
    assert model.fg_generator is generator
    assert len(model) == len(plain)
    torch.testing.assert_close(model(images()), plain(images()))
    # The state dict has the generator's keys, and the host's in the host's order behind them.
    keys = [key for key in model.state_dict() if 'coefficient_head' not in key]
    own = [key for key in keys if not key.startswith(GENERATOR)]
    assert own == list(plain.state_dict())
    assert keys[-len(own) :] == own
    revert_(model)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert torch.equal(model(images()), plain(images()))


@pytest.mark.parametrize('build', [sequential, stages])
def test_a_sequence_lists_the_hosts_modules(build):
    model = build()
    convert_(model, **HOST)
    assert [type(module) for module in model] == [type(module) for module in reversed(list(reversed(model)))]
    assert model.fg_generator not in model
    assert isinstance(model[-1], nn.Linear)
    assert isinstance(model[-3:], nn.Sequential if build is sequential else nn.ModuleList)
    assert len(model[-3:]) == 3
    assert len(model + nn.Sequential(nn.ReLU())) == 6
    with pytest.raises(IndexError):
        model[5]


def test_a_part_of_a_sequence_keeps_the_names():
    model = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 4, 3), act=nn.ReLU(), last=nn.Conv2d(4, 5, 3)))
    convert_(model, **HOST)
    assert [name for name, _ in model[1:].named_children()] == ['act', 'last']


def test_a_sequence_repeated_in_place():
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    convert_(model, **HOST)
    model *= 2
    assert len(model) == 2
    assert model(images()).shape == (2, 3, 28, 28)


def test_a_mapping_lists_and_edits_the_hosts_modules():
    model = named()
    convert_(model, **HOST)
    generator = model.fg_generator
    assert GENERATOR not in model
    with pytest.raises(KeyError):
        model[GENERATOR]
    with pytest.raises(KeyError):
        del model[GENERATOR]
    assert isinstance(model.pop('layer4'), nn.Linear)
    model['last'] = nn.Linear(4, 3)
    model.update({'more': nn.Linear(3, 2)})
    assert list(model) == ['layer0', 'layer1', 'layer2', 'layer3', 'last', 'more']
    assert [key for key in model.state_dict() if key.startswith(GENERATOR)] == list(model.state_dict())[
        : len(generator.state_dict())
    ]
    assert model(images()).shape == (2, 2)
    model.clear()
    assert len(model) == 0
    assert model.fg_generator is generator
