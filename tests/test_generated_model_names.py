"""Names that a network and its conversion both want."""

import copy

import pytest
import torch
from torch import nn

from fg_plugin import convert_
from fg_plugin.conditioning import Conditioning
from fg_plugin.generated_model import check_names

HOST = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), input_size=(3, 32, 32))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c1 = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def modulate(self, x):
        return x

    def forward(self, x):
        return self.fc(self.modulate(self.c1(x)).mean((2, 3)))


class ChildModulates(Net):
    """As FiLM does it."""

    def __init__(self):
        super().__init__()
        self.condition = nn.Conv2d(8, 8, 1)

    def modulate(self, x):
        return x * self.condition(x)


class MethodModulates(Net):
    def condition(self, x):
        return x.sigmoid()

    def modulate(self, x):
        return self.condition(x)


class StaticMethodModulates(MethodModulates):
    condition = staticmethod(torch.tanh)


class AttributeModulates(Net):
    def __init__(self):
        super().__init__()
        self.condition = 0.5

    def modulate(self, x):
        return x * self.condition


class ParameterModulates(Net):
    def __init__(self):
        super().__init__()
        self.condition = nn.Parameter(torch.tensor(0.5))

    def modulate(self, x):
        return x * self.condition


def images(seed=0):
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    'cls', [ChildModulates, MethodModulates, StaticMethodModulates, AttributeModulates, ParameterModulates]
)
def test_the_networks_own_condition_stays(cls):
    plain, model = cls().double(), cls().double()
    convert_(model, **HOST)
    for net in (model, copy.deepcopy(model)):
        torch.testing.assert_close(net(images()), plain(images()), rtol=0, atol=1e-12)
        with net.conditioned_on(images(seed=1)):
            torch.testing.assert_close(net(images()), plain(images()), rtol=0, atol=1e-12)


def test_condition_gives_the_codes_where_the_network_has_no_such_name():
    model = Net().double()
    convert_(model, **HOST)
    conditioning = model.condition(images())
    assert isinstance(conditioning, Conditioning)
    assert conditioning.owner is model
    assert torch.equal(conditioning.codes[0], model.fg_generator(images())[0])


@pytest.mark.parametrize('name', ['conditioned_on', 'fg_generator', 'fg_conversion', 'host_class'])
def test_names_that_only_one_can_have(name):
    model = Net()
    check_names(model)
    setattr(model, name, nn.Identity())
    with pytest.raises(ValueError, match=rf"Net should have no '{name}'.*nn\.Sequential\(network\)"):
        check_names(model)
    check_names(nn.Sequential(model))


def test_a_load_state_dict_of_the_networks_own_may_know_no_assign_and_return_nothing():
    class Loading(Net):
        def load_state_dict(self, state_dict, strict=True):
            super().load_state_dict(state_dict, strict)

    model = Loading()
    state = copy.deepcopy(model.state_dict())
    convert_(model, **HOST)
    model.load_state_dict(state)
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    with pytest.raises(RuntimeError, match=r'missing c1\.weight'):
        model.load_state_dict({'fc.bias': state['fc.bias']})
