"""Copies and pickles of networks that say themselves what belongs to them."""

import copy
import inspect
import pickle
import threading

import pytest
import torch
from torch import nn

from fg_plugin import convert_, revert_
from fg_plugin.generated_model import GeneratedModel

HOST = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), input_size=(3, 32, 32))


class Locked(nn.Module):
    """A network with a lock, which can be neither copied nor pickled."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.lock = threading.Lock()

    def __getstate__(self):
        state = self.__dict__.copy()
        del state['lock']
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        self.lock = threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.conv(x)


class Copying(Locked):
    """A network whose copies share its lock."""

    def __deepcopy__(self, memo):
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__getstate__(), memo), lock=self.lock)
        return twin


@pytest.mark.parametrize('cls', [Locked, Copying])
@pytest.mark.parametrize('copied', [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_the_networks_own_state_is_honoured(cls, copied):
    model = cls()
    convert_(model, **HOST)
    twin = copied(model)
    assert isinstance(twin, GeneratedModel)
    assert type(twin) is type(model)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(twin(x), model(x))
    revert_(twin)
    assert type(twin) is cls


def test_the_networks_own_deepcopy_is_honoured():
    model = Copying()
    convert_(model, **HOST)
    assert copy.deepcopy(model).lock is model.lock


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_parts_that_were_compiled_in_place(copied):
    model = nn.Sequential(nn.Conv2d(3, 8, 3)).eval()
    convert_(model, **HOST)
    for module in (model, model[0], model.fg_generator):
        module.compile(backend='eager')
    assert all(module._compiled_call_impl is None for module in copied(model).modules())


def test_the_class_of_a_network_makes_no_other_one():
    model = Locked()
    convert_(model, **HOST)
    message = r'converted Locked should not be called.*Copy the network by copy\.deepcopy, or build a Locked'
    with pytest.raises(TypeError, match=message):
        type(model)()
    assert inspect.signature(type(model)) == inspect.signature(Locked)
