"""Layers in place of timm's convolutions that change their weight or their input, against those convolutions."""

import copy

import pytest
import torch
from reference import generated_filters
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.layers import layer_class
from fg_plugin.layers.compute_paths import PATHS
from fg_plugin.layers.filter_repo_conv import HEADS

CODE_DIM = 6

HOSTS = {
    'plain': lambda: nn.Conv2d(4, 6, 3, padding=1),
    'same': lambda: Conv2dSame(4, 6, 3, stride=2),
    'same, even kernel': lambda: Conv2dSame(4, 6, 4, stride=2, dilation=2),
    'same, depthwise': lambda: Conv2dSame(4, 4, 3, stride=2, groups=4),
    'standardised': lambda: StdConv2d(4, 6, 3, stride=2),
    'standardised, grouped': lambda: StdConv2d(4, 6, 3, groups=2),
    'standardised, same': lambda: StdConv2dSame(4, 6, 3, stride=2),
    'scaled standardised': lambda: ScaledStdConv2d(4, 6, 3, gamma=1.7, eps=1e-4),
    'scaled standardised, same': lambda: ScaledStdConv2dSame(4, 6, 3, stride=2, gamma=1.7),
    'scaled standardised, 1x1': lambda: ScaledStdConv2d(4, 6, 1),
}


@pytest.fixture(params=HOSTS.values(), ids=HOSTS.keys())
def host(request):
    torch.manual_seed(0)
    conv = request.param().double()
    for parameter in conv.parameters():
        nn.init.normal_(parameter)
    return conv


def make_layer(host, head='lowrank', num_base_filters=None, path='auto'):
    layer = layer_class(host).from_conv(
        host, code_dim=CODE_DIM, head=head, rank=2, num_base_filters=num_base_filters, init='preserve'
    )
    layer.path = path
    return layer


def perturb(layer):
    for parameter in layer.coefficient_head.parameters():
        with torch.no_grad():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def run(layer, x, codes):
    with conditioning_scope(Conditioning(layer, (codes,))):
        return layer(x)


def inputs(batch=3):
    return (torch.randn(batch, size, *shape, dtype=torch.float64) for size, shape in ((4, (7, 6)), (CODE_DIM, ())))


def per_sample_hosts(host, layer, x, codes):
    """Run the host's own forward on each sample, with the filters generated for it as its weight."""
    coefficients = layer.coefficient_head(codes).dense()
    parameters = {name: value for name, value in layer.named_parameters(recurse=False) if name != 'weight'}
    outputs = []
    for sample, weights in zip(x, coefficients, strict=True):
        weight = generated_filters(weights, layer.weight)
        outputs.append(torch.func.functional_call(host, {**parameters, 'weight': weight}, (sample[None],)))
    return torch.cat(outputs)


@pytest.mark.parametrize('path', ['auto', *PATHS])
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('num_base_filters', [None, 3])
def test_equals_the_host_with_generated_filters(host, head, num_base_filters, path):
    layer = perturb(make_layer(copy.deepcopy(host), head, num_base_filters, path))
    x, codes = inputs()
    codes.requires_grad_()
    out, expected = run(layer, x, codes), per_sample_hosts(host, layer, x, codes)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(run(layer, x, codes), expected, rtol=1e-11, atol=1e-12)
    direction = torch.randn_like(out)
    leaves = (codes, *layer.parameters())
    gradients = torch.autograd.grad((out * direction).sum(), leaves)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), leaves)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize('head', HEADS)
def test_computes_what_the_host_computed_at_first(host, head):
    x, codes = inputs()
    expected = host(x)
    torch.testing.assert_close(run(make_layer(host, head), x, codes), expected, rtol=0, atol=1e-12)


def test_gives_the_host_back(host):
    x, _ = inputs()
    state, expected = copy.deepcopy(host.state_dict()), host(x)
    back = make_layer(host).to_conv()
    assert type(back) is type(host)
    assert repr(back) == repr(host)
    assert torch.equal(back(x), expected)
    assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())
    assert back.state_dict().keys() == state.keys()


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('num_base_filters', [None, 3])
def test_frozen_filters_are_those_of_the_sample(host, head, num_base_filters):
    layer = perturb(make_layer(host, head, num_base_filters))
    x, codes = inputs()
    conv = layer.frozen(layer.coefficient_head(codes[:1]))
    assert type(conv) is type(host)
    assert conv.weight.requires_grad
    torch.testing.assert_close(conv(x), run(layer, x, codes[:1]), rtol=0, atol=1e-11)


def test_checkpoint_of_the_host_fits(host):
    other, layer = copy.deepcopy(host), make_layer(host)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    result = layer.load_state_dict(other.state_dict(), strict=False)
    assert all(key.startswith('coefficient_head.') for key in result.missing_keys)
    assert not result.unexpected_keys
    x, codes = inputs()
    torch.testing.assert_close(run(layer, x, codes), other(x), rtol=0, atol=1e-12)


def test_checkpoint_of_the_host_is_approximated_by_fewer_base_filters():
    torch.manual_seed(0)
    host = nn.Conv2d(4, 6, 3).double()
    layer = make_layer(host, num_base_filters=3)
    other = nn.Conv2d(4, 6, 3).double()
    layer.load_state_dict(other.state_dict(), strict=False)
    left, values, right = torch.linalg.svd(other.weight.detach().flatten(1), full_matrices=False)
    approximation = (left[:, :3] * values[:3] @ right[:3]).view_as(other.weight)
    _, codes = inputs()
    torch.testing.assert_close(layer.coefficient_head(codes).filters(layer.weight)[0], approximation)
    assert layer.kept_energy == pytest.approx((values[:3].square().sum() / values.square().sum()).item())


def test_half_precision_standardises_in_full_precision():
    torch.manual_seed(0)
    host = StdConv2d(64, 64, 3)
    layer = perturb(make_layer(host))
    x, codes = torch.randn(2, 64, 8, 8), torch.randn(2, CODE_DIM)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        out = run(layer, x, codes)
    with torch.no_grad():
        expected = run(layer, x, codes)
    assert out.dtype == torch.bfloat16
    assert (out.float() - expected).abs().max() < 0.02 * expected.abs().max()
    coefficients = layer.coefficient_head(codes)
    with torch.autocast('cpu', torch.bfloat16):
        factors = layer._generation(coefficients)[1].factors
    assert torch.equal(factors, layer._generation(coefficients)[1].factors)


def test_an_expanding_standardised_layer_keeps_its_maps_once():
    layer = perturb(make_layer(StdConv2d(4, 64, 1).double(), path='factored'))
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(2, CODE_DIM, dtype=torch.float64)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda t: t):
        run(layer, x, codes)
    assert max(saved) < 2 * 64 * 8 * 8


def test_a_low_rank_standardisation_keeps_no_gram_matrix():
    layer = perturb(make_layer(StdConv2d(4, 64, 1).double()))
    coefficients = layer.coefficient_head(torch.randn(2, CODE_DIM, dtype=torch.float64))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda t: t):
        layer._generation(coefficients)
    assert max(saved) <= layer.weight.numel() < 64 * 64


def test_other_subclasses_have_no_layer():
    class Modulated(nn.Conv2d):
        pass

    assert layer_class(Modulated(1, 1, 1)) is None


def test_gradients_of_each_sample_by_torch_func(host):
    layer, (x, codes) = perturb(make_layer(host, path='factored')), inputs()

    def loss(weight, sample, code):
        with conditioning_scope(Conditioning(layer, (code[None],))):
            return torch.func.functional_call(layer, {'weight': weight}, (sample[None],)).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(layer.weight, x, codes)
    for gradient, sample, code in zip(gradients, x, codes, strict=True):
        (expected,) = torch.autograd.grad(loss(layer.weight, sample, code), layer.weight)
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)
