import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from reference import generated_conv
from reset import reset_modules
from torch import nn

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.coefficient_heads import CODE_SECOND_MOMENT, MAX_COEFFICIENTS
from fg_plugin.layers.compute_paths import PATHS
from fg_plugin.layers.filter_repo_conv import HEADS

CODE_DIM = 6

GEOMETRIES = {
    'plain': dict(in_channels=3, out_channels=4, kernel_size=3),
    'padded': dict(in_channels=3, out_channels=4, kernel_size=3, padding=1),
    'strided': dict(in_channels=3, out_channels=4, kernel_size=3, stride=2, padding=1),
    'stride of two numbers': dict(in_channels=3, out_channels=4, kernel_size=3, stride=(2, 1), padding=(1, 0)),
    'dilated': dict(in_channels=3, out_channels=4, kernel_size=3, dilation=2, padding=2),
    'rectangular': dict(in_channels=3, out_channels=4, kernel_size=(1, 3), padding=(0, 1)),
    'same': dict(in_channels=3, out_channels=4, kernel_size=3, padding='same'),
    'same, even kernel': dict(in_channels=3, out_channels=4, kernel_size=(4, 3), padding='same', dilation=(1, 2)),
    'valid': dict(in_channels=3, out_channels=4, kernel_size=3, padding='valid'),
    'reflect': dict(in_channels=3, out_channels=4, kernel_size=3, padding=1, padding_mode='reflect'),
    'circular': dict(in_channels=3, out_channels=4, kernel_size=3, padding=(1, 2), padding_mode='circular'),
    'replicate': dict(in_channels=3, out_channels=4, kernel_size=3, padding='same', padding_mode='replicate'),
    'no bias': dict(in_channels=3, out_channels=4, kernel_size=3, bias=False),
    'pointwise': dict(in_channels=3, out_channels=4, kernel_size=1),
    'pointwise, strided': dict(in_channels=3, out_channels=4, kernel_size=1, stride=2),
    'pointwise, padded': dict(in_channels=3, out_channels=4, kernel_size=1, padding=1),
    'grouped': dict(in_channels=6, out_channels=4, kernel_size=3, groups=2, padding=1),
    'grouped pointwise': dict(in_channels=6, out_channels=4, kernel_size=1, groups=2),
    'depthwise': dict(in_channels=4, out_channels=4, kernel_size=3, groups=4, padding=1, stride=2),
    'depthwise, multiplier 2': dict(in_channels=2, out_channels=4, kernel_size=3, groups=2, padding=1),
    'few base filters': dict(in_channels=3, out_channels=4, kernel_size=3, num_base_filters=2),
    'many base filters': dict(in_channels=3, out_channels=4, kernel_size=3, num_base_filters=7),
    'more base filters than weights': dict(in_channels=1, out_channels=4, kernel_size=2, num_base_filters=6),
}


def make_layer(head='full', path='auto', dtype=torch.float64, **geometry):
    torch.manual_seed(0)
    layer = FilterRepoConv(**geometry, code_dim=CODE_DIM, head=head, rank=2, path=path, dtype=dtype)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def run(layer, x, codes):
    with conditioning_scope(Conditioning(layer, (codes,))):
        return layer(x)


def dense_coefficients(layer, codes):
    return layer.coefficient_head(codes).dense()


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('path', ['auto', *PATHS])
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('geometry', GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_every_path_equals_the_loop(geometry, head, path, batch):
    layer = make_layer(head, path, **geometry)
    x = torch.randn(batch, layer.in_channels, 7, 6, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(batch, CODE_DIM, dtype=torch.float64, requires_grad=True)
    expected = generated_conv(x, dense_coefficients(layer, codes), layer)
    out = run(layer, x, codes)
    assert out.shape == expected.shape
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    direction = torch.randn_like(out)
    inputs = (x, codes, *layer.parameters())
    gradients = torch.autograd.grad((out * direction).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-11)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('name', ['padded', 'pointwise', 'grouped', 'few base filters'])
def test_without_gradients_the_output_is_the_same(name, head, path, memory_format):
    layer = make_layer(head, path, **GEOMETRIES[name]).to(memory_format=memory_format)
    x = torch.randn(3, layer.in_channels, 7, 6, dtype=torch.float64).to(memory_format=memory_format)
    codes = torch.randn(3, CODE_DIM, dtype=torch.float64)
    expected, before = run(layer, x, codes), copy.deepcopy((x, codes, *layer.parameters()))
    with torch.no_grad():
        out = run(layer, x, codes)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert all(torch.equal(tensor, old) for tensor, old in zip((x, codes, *layer.parameters()), before, strict=True))


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('head', HEADS)
def test_gradcheck(head, path):
    layer = make_layer(head, path, in_channels=2, out_channels=2, kernel_size=2, padding=1, stride=2)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(2, CODE_DIM, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def forward(x, codes, *parameters):
        with conditioning_scope(Conditioning(layer, (codes,))):
            return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(forward, (x, codes, *layer.parameters()))


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('path', ['auto', *PATHS])
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('name', ['padded', 'pointwise', 'grouped', 'few base filters'])
def test_a_batch_may_be_empty_as_for_a_convolution(name, head, path, memory_format):
    layer = make_layer(head, path, **GEOMETRIES[name]).to(memory_format=memory_format)
    x = torch.randn(0, layer.in_channels, 7, 6, dtype=torch.float64).to(memory_format=memory_format)
    codes = torch.randn(0, CODE_DIM, dtype=torch.float64)
    expected = run(layer, x.new_zeros(1, *x.shape[1:]), codes.new_zeros(1, CODE_DIM)).shape
    assert run(layer, x.requires_grad_(), codes).shape == (0, *expected[1:])
    with torch.no_grad():
        assert run(layer, x, codes).shape == (0, *expected[1:])


@pytest.mark.parametrize('path', ['auto', *PATHS])
@pytest.mark.parametrize('head', HEADS)
def test_a_sample_does_not_depend_on_its_batch(head, path):
    layer = make_layer(head, path, in_channels=3, out_channels=4, kernel_size=3)
    x, codes = torch.randn(4, 3, 6, 6, dtype=torch.float64), torch.randn(4, CODE_DIM, dtype=torch.float64)
    together = run(layer, x, codes)
    alone = torch.cat([run(layer, x[i : i + 1], codes[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize('num_base_filters', [6, 5])
@pytest.mark.parametrize('head', ['lowrank', 'residual'])
def test_update_heads_emit_their_formula(head, num_base_filters):
    torch.manual_seed(0)
    layer = FilterRepoConv(2, 6, 3, code_dim=CODE_DIM, head=head, rank=2, num_base_filters=num_base_filters)
    codes, head_module = torch.randn(3, CODE_DIM), layer.coefficient_head
    base = torch.eye(6) if num_base_filters == 6 else head_module.base
    for code, coefficients in zip(codes, dense_coefficients(layer, codes), strict=True):
        if head == 'lowrank':
            scale = head_module.scale.weight @ code + head_module.scale.bias
            left = torch.stack([head_module.left[:, 0] * scale[0], head_module.left[:, 1] * scale[1]], 1)
        else:
            left = (head_module.linear.weight @ code + head_module.linear.bias).view(6, 2)
        torch.testing.assert_close(coefficients, base + left @ head_module.right)


@pytest.mark.parametrize('num_base_filters', [None, 32])
def test_the_scale_of_a_low_rank_head_is_the_relative_size_of_its_update(num_base_filters):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 64, 3, dtype=torch.float64)
    nn.init.orthogonal_(conv.weight)
    layer = FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, head='lowrank', rank=4, num_base_filters=num_base_filters)
    nn.init.constant_(layer.coefficient_head.scale.bias, 0.1)
    filters = layer.coefficient_head(torch.zeros(1, CODE_DIM, dtype=torch.float64)).filters(layer.weight)[0]
    static = layer.coefficient_head(torch.zeros(1, CODE_DIM, dtype=torch.float64)).static_filters(layer.weight)
    updates = (filters - static).flatten(1).norm(dim=1)
    assert updates.square().mean().sqrt().item() == pytest.approx(0.1)


@pytest.mark.parametrize('head', HEADS)
def test_one_code_is_shared_among_the_batch(head):
    layer = make_layer(head, in_channels=3, out_channels=4, kernel_size=3)
    x, code = torch.randn(4, 3, 6, 6, dtype=torch.float64), torch.randn(1, CODE_DIM, dtype=torch.float64)
    repeated = run(layer, x, code.expand(4, -1))
    torch.testing.assert_close(run(layer, x, code), repeated, rtol=0, atol=1e-12)


@pytest.mark.parametrize('head', HEADS)
def test_codes_are_repeated_for_a_folded_batch(head):
    layer = make_layer(head, in_channels=3, out_channels=4, kernel_size=3)
    x, codes = torch.randn(6, 3, 6, 6, dtype=torch.float64), torch.randn(2, CODE_DIM, dtype=torch.float64)
    by_hand = run(layer, x, codes[[0, 0, 0, 1, 1, 1]])
    torch.testing.assert_close(run(layer, x, codes), by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('geometry', ['padded', 'depthwise', 'pointwise', 'grouped'])
def test_channels_last(geometry, head, path, batch):
    layer = make_layer(head, path, **GEOMETRIES[geometry])
    x = torch.randn(batch, layer.in_channels, 7, 6, dtype=torch.float64)
    codes = torch.randn(batch, CODE_DIM, dtype=torch.float64)
    expected = run(layer, x, codes)
    out = run(layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last), codes)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    # Otherwise the rest of the network would run in the other format, slower.
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('geometry', ['padded', 'depthwise', 'pointwise', 'few base filters'])
def test_bfloat16_and_autocast(geometry, head, path):
    layer = make_layer(head, path, **GEOMETRIES[geometry])
    x = torch.randn(3, layer.in_channels, 7, 6, dtype=torch.float64)
    codes = torch.randn(3, CODE_DIM, dtype=torch.float64)
    expected = run(layer, x, codes).detach()
    tolerance = 0.03 * expected.abs().max().item()
    with torch.autocast('cpu', torch.bfloat16):
        autocast = run(copy.deepcopy(layer).float(), x.float(), codes.float())
    pure = run(copy.deepcopy(layer).bfloat16(), x.bfloat16(), codes.bfloat16())
    assert pure.dtype == torch.bfloat16
    for out in (autocast, pure):
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)
        out.float().sum().backward()


def test_meta_device():
    layer = FilterRepoConv(3, 4, 3, code_dim=CODE_DIM, device='meta')
    assert run(layer, torch.empty(2, 3, 6, 6, device='meta'), torch.empty(2, CODE_DIM, device='meta')).shape == (
        2,
        4,
        4,
        4,
    )


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('num_base_filters', [None, 16, 48])
def test_from_scratch_the_output_keeps_the_scale_of_plain_convolutions(head, num_base_filters):
    # What initialisation sets is the expected second moment over weights and samples. That of one deep random network
    # is spread over more than 2x, so each layer's gain is averaged over twelve networks of 16 samples before it enters
    # the product.
    torch.manual_seed(0)
    width, depth, networks, ratio = 32, 10, 12, 1.0
    generated, plain = (torch.randn(networks, 16, width, 6, 6) for _ in range(2))
    codes = CODE_SECOND_MOMENT**0.5 * torch.randn(networks, 16, 48)
    for _ in range(depth):
        gains = torch.zeros(2)
        for i in range(networks):
            conv = nn.Conv2d(width, width, 3, padding=1, padding_mode='circular', bias=False)
            nn.init.kaiming_normal_(conv.weight, nonlinearity='relu')
            layer = FilterRepoConv.from_conv(
                conv, code_dim=48, head=head, num_base_filters=num_base_filters, init='orthogonal'
            )
            with torch.no_grad():
                generated[i], plain[i] = F.relu(run(layer, generated[i], codes[i])), F.relu(conv(plain[i]))
            for index, x in enumerate((generated[i], plain[i])):
                energy = x.square().mean((1, 2, 3), keepdim=True)
                gains[index] += energy.mean()
                x /= energy.sqrt()
        ratio *= (gains[0] / gains[1]).item()
    assert 0.5 < ratio < 2


@pytest.mark.parametrize('num_base_filters', [None, 24])
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize(
    'geometry',
    [
        dict(in_channels=8, out_channels=32, kernel_size=3),
        dict(in_channels=16, out_channels=96, kernel_size=1),
        dict(in_channels=32, out_channels=32, kernel_size=3, groups=32),
    ],
    ids=['ordinary', 'more filters than weights', 'depthwise'],
)
def test_from_scratch_filters_have_the_stated_norms(geometry, head, num_base_filters):
    torch.manual_seed(0)
    norms = torch.zeros(2, dtype=torch.float64)
    for _ in range(100):
        layer = FilterRepoConv(
            **geometry, code_dim=48, head=head, num_base_filters=num_base_filters, dtype=torch.float64
        )
        codes = CODE_SECOND_MOMENT**0.5 * torch.randn(8, 48, dtype=torch.float64)
        static, *filters = layer.coefficient_head(torch.cat([torch.zeros_like(codes[:1]), codes])).filters(layer.weight)
        for index, part in enumerate((static, torch.stack(filters) - static)):
            norms[index] += part.detach().flatten(-3).square().sum(-1).mean() / 100
    num_weights = layer.weight[0].numel()
    # Of these heads, the static filters are as many base filters, of which no more than that can be orthonormal.
    are_base_filters = head != 'full' and layer.num_base_filters == layer.out_channels
    expected = [min(1, num_weights / layer.out_channels) if are_base_filters else 1, 1]
    torch.testing.assert_close(norms, torch.tensor(expected, dtype=torch.float64), rtol=0.1, atol=0)


@pytest.mark.parametrize('head', HEADS)
def test_a_reset_of_every_module_initialises_as_the_layer_does(head):
    layer = make_layer(head, **GEOMETRIES['few base filters'])
    torch.manual_seed(1)
    layer.reset_parameters()
    expected = copy.deepcopy(layer.state_dict())
    torch.manual_seed(1)
    reset_modules(layer)
    assert all(torch.equal(value, expected[key]) for key, value in layer.state_dict().items())


def test_the_repository_starts_orthogonal():
    weight = FilterRepoConv(8, 16, 3, code_dim=4, num_base_filters=12).weight.detach().flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(12), rtol=0, atol=1e-5)


class TestFromConv:
    @pytest.mark.parametrize('head', HEADS)
    @pytest.mark.parametrize('geometry', ['padded', 'same', 'grouped', 'depthwise', 'no bias'])
    def test_keeps_the_function(self, geometry, head):
        torch.manual_seed(0)
        conv = nn.Conv2d(**GEOMETRIES[geometry]).double()
        layer = FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, head=head)
        x, codes = torch.randn(3, conv.in_channels, 7, 6).double(), torch.randn(3, CODE_DIM).double()
        torch.testing.assert_close(run(layer, x, codes), conv(x), rtol=0, atol=1e-14)
        assert layer.weight is conv.weight
        assert layer.bias is conv.bias

    @pytest.mark.parametrize('head', HEADS)
    def test_training_moves_every_head(self, head):
        conv = nn.Conv2d(3, 4, 3)
        layer = FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, head=head)
        x, codes = torch.randn(3, 3, 6, 6), torch.randn(3, CODE_DIM)
        optimizer = torch.optim.SGD(layer.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            run(layer, x, codes).square().sum().backward()
            optimizer.step()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
        coefficients = dense_coefficients(layer, codes)
        assert not torch.allclose(coefficients[0], coefficients[1])

    @pytest.mark.parametrize('head', HEADS)
    def test_fewer_base_filters_keep_the_leading_singular_vectors(self, head):
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 6, 3).double()
        layer = FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, head=head, num_base_filters=3)
        left, values, right = torch.linalg.svd(conv.weight.flatten(1), full_matrices=False)
        truncated = (left[:, :3] * values[:3]) @ right[:3]
        filters = layer.coefficient_head(torch.randn(2, CODE_DIM).double()).filters(layer.weight)
        torch.testing.assert_close(filters.flatten(2), truncated.expand(2, -1, -1), rtol=0, atol=1e-12)

    def test_gives_the_convolution_back(self):
        conv = nn.Conv2d(3, 4, 3, stride=2, padding='valid').eval()
        back = FilterRepoConv.from_conv(conv, code_dim=CODE_DIM).to_conv()
        assert type(back) is nn.Conv2d
        assert back.weight is conv.weight
        assert back.bias is conv.bias
        assert str(back) == str(conv)
        assert not back.training

    def test_does_not_give_back_what_it_did_not_keep(self):
        layer = FilterRepoConv.from_conv(nn.Conv2d(3, 4, 3), code_dim=CODE_DIM, init='orthogonal')
        with pytest.raises(ValueError, match='only after from_conv'):
            layer.to_conv()

    def test_a_checkpoint_of_the_convolution_loads(self):
        conv = nn.Conv2d(3, 4, 3)
        layer = FilterRepoConv(3, 4, 3, code_dim=CODE_DIM)
        missing, unexpected = layer.load_state_dict(conv.state_dict(), strict=False)
        assert not unexpected
        assert all(key.startswith('coefficient_head.') for key in missing)
        torch.testing.assert_close(layer.weight, conv.weight)

    def test_refuses(self):
        conv = nn.Conv2d(3, 4, 3)
        with pytest.raises(ValueError, match="init should be 'preserve' or 'orthogonal', but got 'kaiming'"):
            FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, init='kaiming')
        with pytest.raises(ValueError, match='num_base_filters should be at most out_channels=4'):
            FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, num_base_filters=5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_base_filters=0), 'num_base_filters should be an integer >= 1, but got 0'),
        (dict(code_dim=0), 'code_dim should be an integer >= 1, but got 0'),
        (dict(rank=0), 'rank should be an integer >= 1, but got 0'),
        (dict(level=-1), 'level should be >= 0, but got -1'),
        (dict(head='dense'), r"head should be one of \('full', 'lowrank', 'residual'\), but got 'dense'"),
        (dict(path='fast'), "path should be 'auto' or one of .*, but got 'fast'"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        FilterRepoConv(3, 4, 3, **{'code_dim': CODE_DIM, **options})


def test_refuses_a_head_that_does_not_fit_into_memory():
    advice = "16,777,216.*'residual' or 'lowrank'"
    with pytest.raises(ValueError, match=f"at most {MAX_COEFFICIENTS:,} for head='full'.*{advice}"):
        FilterRepoConv(4096, 4096, 1, code_dim=CODE_DIM, device='meta')


def test_residual_head_has_a_limit_on_coefficients():
    options = dict(code_dim=4, head='residual', rank=4096, device='meta')
    with pytest.raises(ValueError, match=f'at most {MAX_COEFFICIENTS:,} .*4096 \\* 4096.*smaller rank'):
        FilterRepoConv(8, 4096, 1, **options)


@pytest.mark.parametrize('head', HEADS)
def test_takes_a_code_of_another_dtype(head):
    layer = make_layer(head, dtype=torch.bfloat16, **GEOMETRIES['padded'])
    x, codes = torch.randn(2, 3, 6, 6).bfloat16(), torch.randn(2, CODE_DIM).bfloat16()
    out = run(layer, x, codes.float())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, run(layer, x, codes))


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_frozen_filters_keep_the_memory_format(memory_format):
    layer = FilterRepoConv(4, 6, 3, code_dim=CODE_DIM).to(memory_format=memory_format)
    frozen = layer.frozen(layer.coefficient_head(torch.randn(1, CODE_DIM)))
    assert frozen.weight.is_contiguous(memory_format=memory_format)
    assert frozen.weight.is_contiguous() is (memory_format == torch.contiguous_format)


@pytest.mark.parametrize('num_base_filters', [None, 2])
def test_filters_stay_frozen(num_base_filters):
    conv = nn.Conv2d(3, 4, 3).requires_grad_(False)
    layer = FilterRepoConv.from_conv(conv, code_dim=CODE_DIM, num_base_filters=num_base_filters)
    assert not layer.weight.requires_grad
    assert layer.coefficient_head.linear.weight.requires_grad
    assert not layer.frozen(layer.coefficient_head(torch.randn(1, CODE_DIM))).weight.requires_grad


def test_without_conditioning_the_layer_is_named():
    layer = make_layer(in_channels=3, out_channels=4, kernel_size=3)
    layer.name = 'stage1.conv2'
    with pytest.raises(RuntimeError, match=r"'stage1\.conv2' was called without conditioning.*conditioned_on"):
        layer(torch.zeros(1, 3, 5, 5))


def test_refuses_a_conditioning_that_does_not_fit():
    layer = make_layer(in_channels=3, out_channels=4, kernel_size=3, dtype=None)
    x = torch.zeros(3, 3, 5, 5)
    with pytest.raises(RuntimeError, match='multiple of the 2 conditioning images, but got 3'):
        run(layer, x, torch.zeros(2, CODE_DIM))
    with pytest.raises(RuntimeError, match=f'needs a code of length {CODE_DIM}, but level 0 has length 5'):
        run(layer, x, torch.zeros(3, 5))
    layer.level = 1
    with pytest.raises(RuntimeError, match='needs the code of level 1, but the conditioning has 1 levels'):
        run(layer, x, torch.zeros(3, CODE_DIM))


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(copied):
    layer = make_layer(**GEOMETRIES['same'])
    x, codes = torch.randn(2, 3, 6, 6).double(), torch.randn(2, CODE_DIM).double()
    torch.testing.assert_close(run(copied(layer), x, codes), run(layer, x, codes), rtol=0, atol=0)


def check_against_the_loop(layer, x, codes):
    repeated = codes.repeat_interleave(len(x) // len(codes), dim=0)
    expected = generated_conv(x, dense_coefficients(layer, repeated), layer)
    torch.testing.assert_close(run(layer, x, codes), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    'changes',
    [dict(stride=(2, 2)), dict(dilation=(2, 2)), dict(padding_mode='reflect'), dict(path='unfolded')],
    ids=lambda changes: '_'.join(changes),
)
@pytest.mark.parametrize('called_before', [False, True])
def test_follows_an_attribute_changed_after_construction(changes, called_before):
    layer = make_layer(**GEOMETRIES['padded'])
    x, codes = torch.randn(2, 3, 6, 6).double(), torch.randn(2, CODE_DIM).double()
    if called_before:
        run(layer, x, codes)
    for name, value in changes.items():
        setattr(layer, name, value)
    check_against_the_loop(layer, x, codes)
    assert 'path' not in changes or layer._plan(x, 2).path == changes['path']


# As timm's users adapt a stem to small images.
EDITS = {
    'stride': dict(stride=(1, 1)),
    'stride, one number': dict(stride=1),
    'padding': dict(padding=(2, 0)),
    'padding, one number': dict(padding=2),
    'padding by name': dict(padding='same', stride=(1, 1), dilation=(2, 2)),
    'dilation': dict(dilation=(2, 2)),
    'padding of a mode': dict(padding_mode='reflect'),
}


@pytest.mark.parametrize('edits', EDITS.values(), ids=EDITS.keys())
@pytest.mark.parametrize('padding', [1, 'same'])
def test_computes_what_the_convolution_computes_after_the_same_edits(edits, padding):
    conv = nn.Conv2d(3, 4, 3, 1 if padding == 'same' else 2, padding).double()
    layer = FilterRepoConv.from_conv(copy.deepcopy(conv), code_dim=CODE_DIM)
    x, codes = torch.randn(2, 3, 7, 6).double(), torch.randn(2, CODE_DIM).double()
    for module in (conv, layer):
        for name, value in edits.items():
            setattr(module, name, value)
    expected = conv(x)
    torch.testing.assert_close(run(layer, x, codes), expected, rtol=0, atol=1e-12)
    assert all(getattr(layer.to_conv(), name) == value for name, value in edits.items())
    torch.testing.assert_close(layer.to_conv()(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(layer.frozen(layer.coefficient_head(codes[:1]))(x), expected, rtol=0, atol=1e-12)


def test_each_call_follows_its_own_input():
    layer = make_layer('lowrank', **GEOMETRIES['padded'])
    x, codes = torch.randn(4, 3, 8, 8).double(), torch.randn(4, CODE_DIM).double()
    for part in (x, x[:2], x[:, :, :5, :7], x.to(memory_format=torch.channels_last), x):
        check_against_the_loop(layer, part, codes[: len(part)])
        # One code for two entries each, and one for all.
        check_against_the_loop(layer, part, codes[: len(part) // 2])
        check_against_the_loop(layer, part, codes[:1])


def test_the_plan_of_the_latest_call_is_no_part_of_a_pickle():
    layer = make_layer(**GEOMETRIES['padded'])
    before = pickle.dumps(layer)
    run(layer, torch.randn(2, 3, 6, 6).double(), torch.randn(2, CODE_DIM).double())
    assert pickle.dumps(layer) == before


class TestFusion:
    """Folding a batch normalisation into the repository would be silently wrong."""

    def make_block(self):
        conv = FilterRepoConv.from_conv(nn.Conv2d(3, 4, 3), code_dim=CODE_DIM)
        conv.name = 'stem.conv'
        return nn.Sequential(conv, nn.BatchNorm2d(4)).eval()

    def test_mmcv(self):
        fuse_conv_bn = pytest.importorskip('mmcv.cnn').fuse_conv_bn
        with pytest.raises(RuntimeError, match=r"'stem\.conv' is a filter repository.*before its conversion"):
            fuse_conv_bn(self.make_block())

    def test_torch(self):
        block = self.make_block()
        with pytest.raises(RuntimeError, match=r"'stem\.conv' is a filter repository.*before its conversion"):
            torch.nn.utils.fusion.fuse_conv_bn_eval(*block)

    def test_a_checkpoint_can_still_be_assigned(self):
        block, other = self.make_block(), self.make_block()
        block.load_state_dict(other.state_dict(), assign=True)
        assert torch.equal(block[0].weight, other[0].weight)
        with pytest.raises(RuntimeError, match='cannot be replaced'):
            block[0].weight = nn.Parameter(torch.zeros(4, 3, 3, 3))
