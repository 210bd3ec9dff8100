"""What a network takes: its size, and the normalisation of its inputs."""

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import nn

from fg_plugin import convert_
from fg_plugin.host_input import host_input
from fg_plugin.inference import load_model

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SIZE = (3, 32, 32)
PIXELS = dict(mean=(0, 0, 0), std=(1, 1, 1))


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))


@pytest.mark.parametrize(
    'container',
    [
        list,
        torch.tensor,
        np.array,
        lambda values: torch.tensor(values).view(-1, 1, 1),
        lambda values: [torch.tensor(value) for value in values],
    ],
)
def test_statistics_may_be_tensors_and_arrays(container):
    model = net()
    convert_(model, mean=container(MEAN), std=container(STD), input_size=list(SIZE))
    assert model.fg_generator.input_mean.flatten().tolist() == pytest.approx(MEAN)
    assert model.fg_generator.input_std.flatten().tolist() == pytest.approx(STD)
    assert model.fg_conversion.input_size == SIZE


def test_of_a_timm_model():
    model = timm.create_model('test_resnet')
    assert host_input(model) == ((3, 160, 160), model.pretrained_cfg['mean'], model.pretrained_cfg['std'])


def test_statistics_of_a_timm_model_are_averaged_for_other_channels():
    host = host_input(timm.create_model('test_resnet.r160_in1k', in_chans=1))
    assert host.size == (1, 160, 160)
    assert host.mean == pytest.approx((0.5,))
    assert len(host.std) == 1


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(mean=(0.1, 0.9)),
            r'mean should hold a number for each of the channels of inputs \(3, 32, 32\).*but got \(0\.1, 0\.9\)',
        ),
        (dict(mean=(0.1,)), 'mean should hold a number for each'),
        (dict(mean=0.5), r'mean should hold a number for each.*but got 0\.5'),
        (dict(mean=torch.tensor(0.5)), 'mean should hold a number for each'),
        (dict(mean='abc'), 'mean should hold a number for each'),
        (dict(mean=(0.5, 0.5, float('nan'))), 'mean should hold a number for each'),
        (dict(std=(0, 0, 0)), r'std should be > 0, but got \(0, 0, 0\)'),
        (dict(std=(1, 1, -1)), 'std should be > 0'),
        (dict(std=(58.4,) * 3), r'std should be for pixels in \[0, 1\]'),
        (dict(input_size=32), r'input_size should be \(C, H, W\).*but got 32.*\(3, 32, 32\)'),
        (dict(input_size=(32, 32)), r'input_size should be \(C, H, W\).*but got \(32, 32\)'),
        (dict(input_size=(2, 3, 32, 32)), r'input_size should be \(C, H, W\)'),
        (dict(input_size=(3, 32, 0)), r'input_size should be \(C, H, W\)'),
        (dict(input_size=(3, 32, 31.5)), r'input_size should be \(C, H, W\)'),
        (dict(image_size=0), 'image_size should be an integer >= 1, but got 0'),
        (dict(image_size=64.5), 'image_size should be an integer >= 1, but got 64.5'),
        (dict(image_size=(64, 64)), r'image_size should be an integer >= 1, but got \(64, 64\)'),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    model = net()
    with pytest.raises(ValueError, match=message):
        convert_(model, **{**dict(mean=MEAN, std=STD, input_size=SIZE), **options})
    assert type(model) is nn.Sequential


def create(**options):
    return timm.create_model('fg_test_resnet', num_classes=5, **options)


def assert_sees_pixels(model):
    generator = model.fg_generator
    assert generator.input_mean.flatten().tolist() == [0, 0, 0]
    assert generator.input_std.flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize('container', [tuple, torch.tensor])
def test_given_statistics_are_saved(tmp_path, container):
    model = timm.create_model('test_resnet', num_classes=5)
    convert_(model, **{name: container(values) for name, values in PIXELS.items()}, input_size=(3, 64, 64))
    save_for_hf(model, tmp_path, safe_serialization=True)
    reloaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True)
    assert_sees_pixels(reloaded)
    assert reloaded.fg_conversion.input_size == (3, 64, 64)
    assert tuple(reloaded.pretrained_cfg['mean']) == (0.5, 0.5, 0.5)


def test_statistics_are_options_of_create_model(tmp_path):
    model = create(fg_mean=(0, 0, 0), fg_std=(1, 1, 1))
    assert_sees_pixels(model)
    save_for_hf(model, tmp_path, safe_serialization=True)
    assert_sees_pixels(timm.create_model(f'local-dir:{tmp_path}', pretrained=True))


def test_predictions_use_the_given_statistics(tmp_path):
    options = dict(num_classes=5, fg_mean=(0, 0, 0), fg_std=(1, 1, 1))
    torch.save(timm.create_model('fg_test_resnet', **options).state_dict(), tmp_path / 'weights.pth')
    loaded = load_model('fg_test_resnet', tmp_path / 'weights.pth', options=options)
    normalise = loaded.transform.transforms[-1]
    assert torch.as_tensor(normalise.mean).tolist() == [0, 0, 0]
    assert torch.as_tensor(normalise.std).tolist() == [1, 1, 1]
