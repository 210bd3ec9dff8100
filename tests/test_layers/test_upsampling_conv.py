import pytest
import torch
from torch import nn

from fg_plugin.layers.upsampling_conv import UpsamplingConv2d


@pytest.mark.parametrize('kernel_size', [1, 3, 5, 7])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('size', [(2, 3), (1, 1), (5, 4)])
def test_equals_the_convolution_of_the_upsampled_map(kernel_size, bias, size):
    torch.manual_seed(0)
    conv = UpsamplingConv2d(4, 6, kernel_size, bias=bias).double()
    plain = nn.Conv2d(4, 6, kernel_size, padding=kernel_size // 2, bias=bias).double()
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, *size, dtype=torch.double, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    out, expected = conv(x), plain(nn.Upsample(scale_factor=2, mode='nearest')(other))
    torch.testing.assert_close(out, expected)
    gradient = torch.randn_like(expected)
    out.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(x.grad, other.grad)
    for parameter, reference in zip(conv.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, reference.grad)


def test_starts_like_the_convolution():
    torch.manual_seed(0)
    conv = UpsamplingConv2d(4, 6, 3)
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, padding=1)
    assert torch.equal(conv.weight, plain.weight)
    assert torch.equal(conv.bias, plain.bias)


def test_refuses_an_even_kernel():
    with pytest.raises(ValueError, match=r'kernel_size should be odd.*got 4'):
        UpsamplingConv2d(4, 6, 4)
