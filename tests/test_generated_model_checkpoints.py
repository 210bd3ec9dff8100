"""Checkpoints of plain networks, loaded into converted ones by load_state_dict."""

import copy

import mmengine.runner
import pytest
import timm
import torch
from generated_keys import generated_keys
from perturbed import perturb_heads_
from torch import nn

from fg_plugin import convert_, revert_

HOST = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), input_size=(3, 32, 32))


class Host(nn.Module):
    def __init__(self, shared=False):
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3)
        self.c2 = nn.Conv2d(8, 8, 3)
        self.again = self.c2 if shared else nn.Identity()
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.again(self.c2(self.c1(x).relu()).relu()).mean((2, 3)))


def images(dtype=torch.float64):
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=dtype)


def plain(seed, **kwargs):
    torch.manual_seed(seed)
    return Host(**kwargs).double().eval()


def converted(host=None, **options):
    model = plain(1) if host is None else host
    convert_(model, **HOST, **options)
    return model


@pytest.mark.parametrize('head', ['full', 'lowrank', 'residual'])
def test_a_network_from_scratch_computes_what_the_plain_one_computes(head):
    model = converted(init='orthogonal', head=head)
    result = model.load_state_dict(plain(0).state_dict())
    assert not result.missing_keys
    torch.testing.assert_close(model(images()), plain(0)(images()), rtol=0, atol=1e-12)


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, mmengine.runner.checkpoint.load_state_dict])
@pytest.mark.parametrize('options', [dict(init='orthogonal'), dict(), dict(num_base_filters=4, head='full')])
def test_a_part_of_another_network_computes_what_the_plain_one_computes(load, options):
    parent = nn.Sequential(converted(**options), nn.Linear(5, 2).double())
    state = nn.Sequential(plain(0), nn.Linear(5, 2).double()).state_dict()
    own = copy.deepcopy(parent.state_dict())
    load(parent, state, strict=True)
    expected = converted(**options)
    expected.load_state_dict(plain(0).state_dict())
    torch.testing.assert_close(parent[0](images()), expected(images()), rtol=0, atol=1e-12)
    # A checkpoint of its own is not taken for one of the plain network.
    perturb_heads_(parent)
    load(parent, own, strict=True)
    assert all(torch.equal(value, own[key]) for key, value in parent.state_dict().items())
    incomplete = {key: value for key, value in state.items() if key != '0.fc.bias'}
    with pytest.raises(RuntimeError, match=r'0\.fc\.bias'):
        load(parent, incomplete, strict=True)


@pytest.mark.parametrize('options', [dict(init='orthogonal'), dict(), dict(num_base_filters=4, head='full')])
def test_the_loader_of_mmengine_takes_plain_weights(options):
    model, expected = converted(**options), converted(**options)
    expected.load_state_dict(plain(0).state_dict())
    mmengine.runner.checkpoint.load_state_dict(model, plain(0).state_dict(), strict=True)
    torch.testing.assert_close(model(images()), expected(images()), rtol=0, atol=1e-12)
    own = copy.deepcopy(perturb_heads_(model).state_dict())
    mmengine.runner.checkpoint.load_state_dict(model, own, strict=True)
    assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


def test_a_reverted_network_knows_nothing_of_it():
    model = converted()
    revert_(model)
    assert vars(model).keys() == vars(Host()).keys()
    assert not model._load_state_dict_post_hooks


def test_a_network_of_timm_from_scratch(tmp_path):
    torch.manual_seed(0)
    host = timm.create_model('test_resnet', num_classes=5).eval()
    path = tmp_path / 'plain.pth'
    torch.save(host.state_dict(), path)
    model = timm.create_model('fg_test_resnet', num_classes=5, fg_init='orthogonal', checkpoint_path=str(path)).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(x), host(x), rtol=1e-4, atol=1e-5)


def test_trained_heads_over_the_convolutions_weights_stay():
    model = perturb_heads_(converted())
    heads = copy.deepcopy(model.c1.coefficient_head.state_dict())
    model.load_state_dict(plain(0).state_dict())
    assert all(torch.equal(value, heads[key]) for key, value in model.c1.coefficient_head.state_dict().items())
    assert torch.equal(model.c1.weight, plain(0).c1.weight)


def test_a_layer_that_the_file_lacks_keeps_its_filters():
    model = converted(init='orthogonal')
    codes = torch.rand(2, model.c1.code_dim, dtype=torch.float64)
    before = model.c1.coefficient_head(codes).dense()
    state = plain(0).state_dict()
    del state['c1.weight']
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ['c1.weight']
    assert torch.equal(model.c1.coefficient_head(codes).dense(), before)


@pytest.mark.parametrize('init', ['preserve', 'orthogonal'])
def test_a_layer_with_two_names(init):
    model = converted(plain(1, shared=True), init=init)
    assert set(model.state_dict()) - generated_keys(model) == set(plain(0, shared=True).state_dict())
    model.load_state_dict(plain(0, shared=True).state_dict())
    torch.testing.assert_close(model(images()), plain(0, shared=True)(images()), rtol=0, atol=1e-12)


def test_a_network_built_without_values_takes_those_of_a_file():
    trained = perturb_heads_(converted())
    with torch.device('meta'):
        model = Host()
    convert_(model.eval(), **HOST)
    model.load_state_dict(copy.deepcopy(trained.state_dict()), assign=True)
    assert torch.equal(model(images()), trained(images()))


class Wider(Host):
    """Another architecture: some keys have other shapes, some are missing, some are unknown."""

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 5)
        self.c3 = self.c2
        del self.c2


def test_a_file_of_another_architecture_is_described_in_full():
    message = (
        r'should fit Host with generated filters or without, but.*missing c2\.weight, c2\.bias; unknown to the model '
        r'c3\.weight, c3\.bias; size mismatch for c1\.weight: .*\[8, 3, 5, 5\].*\[8, 3, 3, 3\]'
    )
    with pytest.raises(RuntimeError, match=message):
        converted().load_state_dict(Wider().state_dict())


def test_a_file_with_other_shapes_alone_names_those():
    state = plain(0).state_dict()
    state['fc.weight'] = torch.zeros(7, 8)
    with pytest.raises(RuntimeError, match=r'size mismatch for fc\.weight') as info:
        converted().load_state_dict(state)
    assert 'missing' not in str(info.value)
    with pytest.raises(RuntimeError, match=r'size mismatch for fc\.weight'):
        converted().load_state_dict(state, strict=False)
