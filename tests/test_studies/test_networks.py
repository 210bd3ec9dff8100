import pytest
import torch
import torch.nn.functional as F

import fg_plugin
from fg_plugin.studies.arms import ARMS, STUDIES, macs, parameters, static
from fg_plugin.studies.data import load_data
from fg_plugin.studies.training import normalise


@pytest.fixture(scope='module')
def data():
    return load_data('digits')


def build(name, data):
    torch.manual_seed(0)
    return ARMS[name].build(data, static(data))


def test_every_arm_is_in_a_study():
    assert set(ARMS) == {arm for arms in STUDIES.values() for arm in arms}


@pytest.mark.parametrize('name', ARMS)
def test_every_arm_trains(name, data):
    model = build(name, data)
    loss = F.cross_entropy(model(normalise(data, data.train.pixels[:8])), data.train.labels[:8])
    if hasattr(model, 'fg_generator'):
        loss = loss + fg_plugin.reconstruction_loss(model)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('name', ['stem', 'input', 'paper', 'condconv', 'lowrank_tanh', 'lowrank_layer_norm'])
def test_filters_are_those_of_each_image(name, data):
    model = build(name, data).double().eval()
    pixels = normalise(data, data.test.pixels[:4]).double()
    with torch.no_grad():
        batch = model(pixels)
        for index in range(4):
            torch.testing.assert_close(model(pixels[index : index + 1]), batch[index : index + 1])


@pytest.mark.parametrize('name', ['static', 'se', 'no_reconstruction', 'input', 'wide_macs', 'warm_full_heads10'])
def test_arms_of_the_resnet_train(name, data):
    data = data._replace(network='resnet18')
    model = build(name, data)
    F.cross_entropy(model(normalise(data, data.train.pixels[:8])), data.train.labels[:8]).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_resnet_keeps_the_size_of_small_images(data):
    net = static(data._replace(network='resnet18'))
    side = -(-data.train.pixels.shape[2] // 8)
    assert net.forward_features(data.train.pixels[:2]).shape == (2, 128, side, side)
    widths = [layer[0].bn1.num_features for layer in (net.layer1, net.layer2, net.layer3, net.layer4)]
    assert widths == [16, 32, 64, 128]
    assert net.conv1(data.train.pixels[:2]).shape[2:] == data.train.pixels.shape[2:]


@pytest.mark.parametrize('name', ['stem', 'condconv'])
def test_arms_made_for_the_plain_network_refuse_another(name, data):
    with pytest.raises(ValueError, match=r"should be given the network 'plain'.*got 'resnet18'"):
        build(name, data._replace(network='resnet18'))


def test_codes_of_the_stem_reach_all_other_layers(data):
    model = build('stem', data).eval()
    layers = [module for module in model.modules() if isinstance(module, fg_plugin.FilterRepoConv)]
    assert len(layers) == 3
    pixels = normalise(data, data.test.pixels[:2])
    seen = []
    for layer in layers:
        layer.coefficient_head.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    with torch.no_grad():
        model(pixels)
        expected = model.code(model.net.blocks[0](pixels))
    assert all(torch.equal(code, expected) for code in seen)
    assert len(seen) == 3


def test_wide_and_narrow_networks_cost_as_much(data):
    target = build('paper', data)
    assert parameters(build('wide_parameters', data), data) == pytest.approx(parameters(target, data), rel=0.03)
    assert macs(build('wide_macs', data), data) == pytest.approx(macs(target, data), rel=0.03)
    assert macs(build('narrow_macs', data), data) == pytest.approx(macs(build('quarter', data), data), rel=0.05)
    residual = parameters(build('residual_static_start', data), data)
    assert parameters(build('wide_residual', data), data) == pytest.approx(residual, rel=0.03)
    without = build('no_reconstruction', data)
    assert parameters(target, data) == parameters(without, data)


def test_a_standardised_network_does_not_see_contrast(data):
    model = build('standardised', data).eval()
    images = data.test.pixels[:4]
    torch.testing.assert_close(model(0.2 + 0.3 * images), model(images), rtol=1e-4, atol=1e-4)
    assert torch.isfinite(model(torch.zeros_like(images))).all()
    assert macs(model, data) == macs(static(data), data)


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('lowrank_tanh', lambda scales: scales.abs().amax(1).clamp_min(1)),
        ('lowrank_softmax', lambda scales: scales.abs().sum(1)),
        ('lowrank_l2', lambda scales: scales.square().sum(1)),
    ],
)
def test_activations_of_the_coefficients(name, size, data):
    model = build(name, data)
    scales = []
    for layer in model.modules():
        if isinstance(layer, fg_plugin.FilterRepoConv):
            layer.coefficient_head.scale.register_forward_hook(lambda module, args, out: scales.append(out.detach()))
    model(100 * normalise(data, data.train.pixels[:8]))
    assert len(scales) == 4
    for scale in scales:
        torch.testing.assert_close(size(scale), torch.ones(8))
    assert any(scale.std(0).max() > 0.01 for scale in scales)
