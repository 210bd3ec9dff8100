"""Methods of converted networks that take no images, or something else inside the network's own forward."""

import pytest
import torch
from perturbed import perturb_heads_
from torch import nn

from fg_plugin import convert_

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
    return perturb_heads_(model)


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


class Tokens(Net):
    """A network that makes tokens of the images, and passes them to a method of its own."""

    inner = 'forward_features'

    def forward_features(self, tokens):
        return self.fc(tokens.mean(1))

    embed = forward_features

    def forward(self, x):
        return getattr(self, self.inner)(self.c2(self.c1(x).relu()).flatten(2).transpose(1, 2))


class Crops(Net):
    """A network that passes four crops of each image to a method of its own, one image after the other."""

    inner = 'forward_features'

    def forward_features(self, crops):
        return self.c2(self.c1(crops).relu()).mean((2, 3))

    embed = forward_features

    def forward(self, x):
        crops = x.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        return self.fc(getattr(self, self.inner)(crops).unflatten(0, (-1, 4)).mean(1))


@pytest.mark.parametrize('cls', [Tokens, Crops])
@pytest.mark.parametrize('filters_of', ['the input', 'other images', 'one image'])
def test_inner_methods_take_what_the_networks_forward_gives_them(cls, filters_of):
    class Renamed(cls):
        inner = 'embed'

    def call(model):
        if filters_of == 'the input':
            return model(images())
        with model.conditioned_on(images(2 if filters_of == 'other images' else 1, seed=1)):
            return model(images())

    torch.testing.assert_close(call(converted(cls())), call(converted(Renamed())), rtol=0, atol=1e-12)


@pytest.mark.parametrize('use_reentrant', [False, True])
def test_inner_methods_are_recomputed_under_checkpointing(use_reentrant):
    class Checkpointed(Crops):
        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(super().forward, x, use_reentrant=use_reentrant)

    expected, model = converted(Crops()).train(), converted(Checkpointed()).train()
    for net in (expected, model):
        net(images().requires_grad_()).square().sum().backward()
    for parameter, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=0, atol=1e-12)


def test_a_call_from_outside_is_still_checked():
    model = converted(Crops())
    with model.conditioned_on(images()):
        with pytest.raises(ValueError, match='but got 2 for 8 inputs'):
            model(images(8))
        with pytest.raises(ValueError, match=r"'crops' should be images \(B, C, H, W\)"):
            model.forward_features(torch.zeros(2, 3))


def test_inner_methods_compile_in_one_graph():
    model = converted(Crops())
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(images()), model(images()), rtol=0, atol=1e-12)
    with model.conditioned_on(images(seed=1)):
        expected = model(images())

    def conditioned(x, others):
        with model.conditioned_on(others):
            return model(x)

    out = torch.compile(conditioned, fullgraph=True, backend='eager')(images(), images(seed=1))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


class RunsItsChildren(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3)
        self.c2 = nn.Conv2d(8, 8, 3)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


def test_a_network_that_runs_its_children_runs_no_generator():
    host = RunsItsChildren().double().eval()
    expected = host(images())
    convert_(host, **HOST)
    torch.testing.assert_close(host(images()), expected, rtol=0, atol=1e-12)
    # All else, such as a move to another device, finds it.
    assert [name for name, _ in host.named_children()] == ['fg_generator', 'c1', 'c2']
    assert host.fg_generator in list(host.children())
    with host.conditioned_on(images(seed=1)):
        assert host.fg_generator in list(host.children())
