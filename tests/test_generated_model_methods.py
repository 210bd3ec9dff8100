"""Methods of converted networks that take no images, or something else inside the network's own forward."""

import pytest
import torch
from torch import nn

from fg_plugin import FilterRepoConv, convert_

HOST = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), input_size=(3, 32, 32))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c1 = nn.Conv2d(3, 8, 3, padding=1)
        self.c2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.c2(self.c1(x).relu()).mean((2, 3)))


def images(batch=2, seed=0):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def converted(host):
    model = host.double().eval()
    convert_(model, **HOST)
    torch.manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, FilterRepoConv):
            for parameter in layer.coefficient_head.parameters():
                parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


class WithoutArguments(Net):
    def get_intermediate_layers(self):
        return [self.c1, self.c2]


class OnlyOptions(Net):
    def get_intermediate_layers(self, *, last=1):
        return [self.c1, self.c2][-last:]


class AnyOptions(Net):
    def get_intermediate_layers(self, **options):
        return [self.c1, self.c2]


@pytest.mark.parametrize('cls', [WithoutArguments, OnlyOptions, AnyOptions])
def test_a_method_without_images_stays_as_it_is(cls):
    model = converted(cls())
    assert model.get_intermediate_layers()[-1] is model.c2
    assert model(images()).shape == (2, 5)


def passed_on(method):
    def call(*args, **kwargs):
        return method(*args, **kwargs)

    return call


def test_a_method_whose_signature_a_decorator_hides():
    class Decorated(Net):
        forward = passed_on(Net.forward)

    model, expected = converted(Decorated()), converted(Net())
    assert torch.equal(model(images()), expected(images()))
