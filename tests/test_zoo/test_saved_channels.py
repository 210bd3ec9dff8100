"""Folders of ``save_for_hf`` loaded for images of another number of channels."""

import pytest
import timm
import torch
from test_zoo.networks import make
from timm.models import save_for_hf

NAME = 'test_resnet'
INPUT = dict(fg_mean=(0.5, 0.5, 0.5), fg_std=(0.2, 0.2, 0.2), fg_input_size=(3, 64, 64))


def save(folder, **options):
    model = make(NAME, **options).float()
    save_for_hf(model, folder, safe_serialization=True)
    return model


def load(folder, **options):
    return timm.create_model(f'local-dir:{folder}', pretrained=True, **options).eval()


def images(channels):
    return torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(0))


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('options', [dict(), INPUT, dict(fg_num_base_filters=4)])
def test_gray_images_are_those_of_equal_channels(tmp_path, options):
    model, gray = save(tmp_path, **options), load(tmp_path, in_chans=1)
    with torch.no_grad():
        close(gray(images(1)), model(images(1).expand(-1, 3, -1, -1)))
    assert gray.pretrained_cfg['first_conv'] == model.pretrained_cfg['first_conv']
    save_for_hf(gray, tmp_path / 'gray', safe_serialization=True)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / 'gray')(images(1)), gray(images(1)))


@pytest.mark.parametrize(('saved', 'loaded'), [(3, 4), (4, 4), (4, 1), (1, 3)])
def test_first_convolutions_change_as_those_of_timm(tmp_path, saved, loaded):
    model, other = save(tmp_path, in_chans=saved), load(tmp_path, in_chans=loaded)
    ratio = saved / loaded if loaded > 1 else 1
    for name in ('conv1.0', 'fg_generator.autoencoder.encoder.0.conv'):
        weight, expected = (network.get_submodule(name).weight for network in (other, model))
        count = min(saved, loaded)
        if loaded == 1:
            close(weight, expected.sum(1, keepdim=True))
        else:
            close(weight[:, :count], ratio * expected[:, :count])
    assert other(images(loaded)).isfinite().all()


def test_the_decoder_gives_as_many_channels(tmp_path):
    model = save(tmp_path, fg_reconstruction_weight=1.0).fg_generator.autoencoder
    gray = load(tmp_path, in_chans=1).fg_generator.autoencoder
    pixels = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = model.decode(model.encode(pixels.expand(-1, 3, -1, -1))).mean(1, keepdim=True)
        close(gray.decode(gray.encode(pixels)), expected)


def test_without_the_weights(tmp_path):
    save(tmp_path, **INPUT)
    model = timm.create_model(f'local-dir:{tmp_path}', in_chans=1)
    assert model.fg_conversion.input_size == (1, 64, 64)
    assert model.fg_generator.input_mean.flatten().tolist() == [0.5]


@pytest.mark.parametrize('mean', [(0.1, 0.2, 0.3), INPUT['fg_mean'], torch.ones(3)])
def test_given_options_are_not_changed(tmp_path, mean):
    save(tmp_path, **INPUT)
    with pytest.raises(ValueError, match='mean should hold a number for each'):
        load(tmp_path, in_chans=1, fg_mean=mean)
