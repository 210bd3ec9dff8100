import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.low_rank_update import LowRankUpdate

GEOMETRY = dict(stride=(2, 1), padding=(1, 0), dilation=(1, 2))
# One where the maps are smaller than the filters, and are kept, and one where they are not.
SIDES = {'few pixels': 5, 'many pixels': 20}


def make_inputs(side, memory_format=torch.contiguous_format, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = ((2, 3, side, side), (6, 3, 3, 3), (2, 6, 2), (2, 6))
    tensors = [torch.randn(shape, dtype=dtype) for shape in shapes]
    tensors = [t.to(memory_format=memory_format) if t.ndim == 4 else t for t in tensors]
    return [tensor.requires_grad_() for tensor in tensors]


def update(x, filters, left, right):
    maps = F.conv2d(x, filters, None, **GEOMETRY)
    return LowRankUpdate.apply(maps, x.detach(), filters.detach(), tuple(GEOMETRY.values()), left, right)


def plain_update(x, filters, left, right):
    maps = F.conv2d(x, filters, None, **GEOMETRY)
    return maps + torch.einsum('bnr,rm,bmhw->bnhw', left, right, maps)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('side', SIDES.values(), ids=SIDES.keys())
def test_equals_the_plain_update_with_its_gradients(side, memory_format):
    inputs = make_inputs(side, memory_format)
    out, expected = update(*inputs), plain_update(*inputs)
    assert out.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    direction = torch.randn_like(out)
    gradients = torch.autograd.grad((out * direction).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('side', SIDES.values(), ids=SIDES.keys())
def test_the_next_layer_may_work_in_place_and_a_gradient_may_be_expanded(side):
    inputs = make_inputs(side)
    # The gradient of a sum has strides of zero.
    gradients = torch.autograd.grad(nn.ReLU(inplace=True)(update(*inputs)).sum(), inputs)
    expected_gradients = torch.autograd.grad(plain_update(*inputs).relu().sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-11)


def saved_shapes(side):
    shapes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(tuple(t.shape)) or t, lambda t: t):
        out = update(*make_inputs(side))
    return tuple(out.shape), shapes


def test_keeps_the_maps_only_where_they_are_small():
    maps, shapes = saved_shapes(SIDES['few pixels'])
    assert maps in shapes
    maps, shapes = saved_shapes(SIDES['many pixels'])
    assert maps not in shapes
    assert (2, 2, maps[2] * maps[3]) in shapes


def layer_and_inputs():
    torch.manual_seed(0)
    layer = FilterRepoConv(3, 6, 3, code_dim=4, head='lowrank', rank=2, path='factored', dtype=torch.float64)
    return layer, torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)


def run(layer, x, codes):
    with conditioning_scope(Conditioning(layer, (codes,))):
        return layer(x)


def test_refuses_a_second_derivative_and_says_how_to_get_it():
    layer, x, codes = layer_and_inputs()
    x.requires_grad_()
    with pytest.raises(
        RuntimeError,
        match=r"'lowrank' or 'residual' head .* differentiated once, .* set the attribute path .* to 'materialised'",
    ):
        torch.autograd.grad(run(layer, x, codes).sum(), x, create_graph=True)
    layer.path = 'materialised'
    (gradient,) = torch.autograd.grad(run(layer, x, codes).sum(), x, create_graph=True)
    gradient.sum().backward()
    assert layer.coefficient_head.left.grad.abs().max() > 0


def test_refuses_a_batch_of_gradients_and_says_how_to_get_it():
    layer, x, codes = layer_and_inputs()

    def jacobian(vectorize):
        return torch.autograd.functional.jacobian(lambda x: run(layer, x, codes).mean((2, 3)), x, vectorize=vectorize)

    message = r"'lowrank' or 'residual' head .* one gradient at a time, .* set the attribute path .* to 'materialised'"
    with pytest.raises(RuntimeError, match=message):
        jacobian(True)
    expected = jacobian(False)
    torch.testing.assert_close(torch.func.jacrev(lambda x: run(layer, x, codes).mean((2, 3)))(x), expected)
    layer.path = 'materialised'
    torch.testing.assert_close(jacobian(True), expected)


def test_transforms_of_torch_func_work():
    layer, x, codes = layer_and_inputs()
    gradient = torch.func.grad(lambda x: run(layer, x, codes).square().sum())(x)
    (expected,) = torch.autograd.grad(run(layer, x.requires_grad_(), codes).square().sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_forward_mode_differentiation_works():
    layer, x, codes = layer_and_inputs()
    direction = torch.randn_like(x)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(run(layer, forward_ad.make_dual(x, direction), codes)).tangent
    _, expected = torch.func.jvp(lambda x: run(layer, x, codes), (x,), (direction,))
    torch.testing.assert_close(tangent, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('side', SIDES.values(), ids=SIDES.keys())
def test_autocast_gives_gradients_of_the_parameters_precision(side):
    inputs = make_inputs(side, dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        out = update(*inputs)
    assert out.dtype == torch.bfloat16
    gradients = torch.autograd.grad(out.float().square().mean(), inputs)
    expected_gradients = torch.autograd.grad(plain_update(*inputs).square().mean(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - expected_gradient).norm() < 3e-2 * expected_gradient.norm()
