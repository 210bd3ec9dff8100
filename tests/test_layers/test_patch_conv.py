import copy

import pytest
import torch
from torch import nn

from fg_plugin.layers.patch_conv import PatchConv2d


def products(monkeypatch):
    """Count the products that take the place of convolutions."""
    calls = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, 'linear', lambda *args: calls.append(args) or linear(*args))
    return calls


@pytest.mark.parametrize(
    ('size', 'options', 'is_product'),
    [
        ((4, 4), dict(kernel_size=4), True),
        ((3, 5), dict(kernel_size=(3, 5), stride=2), True),
        ((8, 12), dict(kernel_size=4, stride=4), True),
        ((6, 8), dict(kernel_size=(3, 2), stride=(3, 2)), True),
        ((9, 8), dict(kernel_size=4, stride=4), False),
        ((8, 8), dict(kernel_size=4, stride=2), False),
        ((4, 4), dict(kernel_size=4, padding=1), False),
        ((4, 4), dict(kernel_size=4, bias=True), False),
        ((4, 4), dict(kernel_size=4, groups=3), False),
        ((4, 4), dict(kernel_size=2, dilation=3), False),
    ],
)
@pytest.mark.parametrize('batch', [0, 1, 3])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_equals_the_convolution(monkeypatch, size, options, is_product, batch, memory_format):
    torch.manual_seed(0)
    conv = PatchConv2d(6, 9, **{'bias': False, **options}).double()
    plain = nn.Conv2d(6, 9, **{'bias': False, **options}).double()
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(batch, 6, *size, dtype=torch.double).contiguous(memory_format=memory_format).requires_grad_()
    other = copy.deepcopy(x)
    calls = products(monkeypatch)
    out, expected = conv(x), plain(other)
    assert len(calls) == is_product
    torch.testing.assert_close(out, expected)
    gradient = torch.randn_like(expected)
    out.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(x.grad, other.grad)
    torch.testing.assert_close(conv.weight.grad, plain.weight.grad)
