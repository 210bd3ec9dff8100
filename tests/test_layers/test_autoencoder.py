import pytest
import torch
from torch import nn

from fg_plugin.layers import Autoencoder

TABLES = {
    'Table 5': (
        dict(in_channels=1, kernel_size=5, encoder=((20, 1), (20, 2)), decoder=('up',)),
        28,
        [(20, 28), (20, 14)],
    ),
    'Table 9': (
        dict(
            in_channels=3,
            kernel_size=3,
            encoder=((64, 1), (64, 2), (96, 2), (96, 2), (128, 2)),
            decoder=('up', 96, 'up', 96, 'up', 64, 'up', 64),
        ),
        64,
        [(64, 64), (64, 32), (96, 16), (96, 8), (128, 4)],
    ),
    'Table 16': (
        dict(
            in_channels=3,
            kernel_size=3,
            encoder=((64, 1), (96, 2), (128, 2), (128, 2)),
            decoder=('up', 128, 'up', 96, 'up', 96),
            encoder_act='relu',
        ),
        32,
        [(64, 32), (96, 16), (128, 8), (128, 4)],
    ),
}


@pytest.mark.parametrize(('spec', 'size', 'levels'), TABLES.values(), ids=TABLES.keys())
def test_sizes_of_the_tables(spec, size, levels):
    autoencoder = Autoencoder(**spec)
    images = torch.rand(2, spec['in_channels'], size, size)
    features = autoencoder.encode(images)
    assert [(feature.shape[1], feature.shape[2]) for feature in features] == levels
    assert autoencoder.feature_sizes(size) == tuple(side for _, side in levels)
    assert autoencoder.channels == tuple(channels for channels, _ in levels)
    assert autoencoder.decode(features).shape == images.shape


def plain_decoder(autoencoder, steps, act):
    """Return the decoder of the specification's own layers, with the weights of ``autoencoder``."""
    blocks = [module for module in autoencoder.decoder if isinstance(module, nn.Sequential)]
    layers = []
    for step in steps:
        if step == 'up':
            layers.append(nn.Upsample(scale_factor=2, mode='nearest'))
        else:
            block = blocks.pop(0)
            layers += [plain_conv(block.conv), block.norm, act]
    assert not blocks
    return nn.Sequential(*layers, plain_conv(autoencoder.decoder[-1]))


def plain_conv(conv):
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, bias=conv.bias is not None
    )
    plain.load_state_dict(conv.state_dict())
    return plain.double()


@pytest.mark.parametrize(
    'steps', [*(spec['decoder'] for spec, *_ in TABLES.values()), (8, 'up', 'up'), ('up', 'up', 6, 6, 'up')], ids=str
)
@pytest.mark.parametrize('decoder_act', ['relu', 'lrelu'])
def test_the_decoder_computes_its_steps(steps, decoder_act):
    torch.manual_seed(0)
    encoder = ((6, 2),) * steps.count('up')
    autoencoder = Autoencoder(3, 3, encoder, steps, decoder_act=decoder_act).double()
    act = {'relu': nn.ReLU(), 'lrelu': nn.LeakyReLU()}[decoder_act]
    features = autoencoder.encode(torch.rand(2, 3, 32, 32, dtype=torch.double))
    expected = plain_decoder(autoencoder, steps, act)(nn.LeakyReLU()(features[-1]))
    torch.testing.assert_close(autoencoder.decode(features), expected)


def test_features_come_before_the_activation():
    features = Autoencoder(**TABLES['Table 16'][0]).encode(torch.rand(4, 3, 32, 32))
    assert all((feature < 0).any() for feature in features)


def test_odd_sizes_are_those_of_the_convolutions():
    autoencoder = Autoencoder(1, 3, ((4, 2), (4, 2)), None)
    features = autoencoder.encode(torch.rand(1, 1, 13, 13))
    assert tuple(feature.shape[-1] for feature in features) == autoencoder.feature_sizes(13)


@pytest.mark.parametrize(('size', 'fitting'), [(20, 32), (12, 16), (0, 16)])
def test_refuses_an_image_that_the_decoder_does_not_return_to(size, fitting):
    autoencoder = Autoencoder(3, 3, ((4, 2),) * 4, ('up',) * 4)
    message = f'image_size should be a multiple of 16, .* but got {size}. {fitting} would work'
    with pytest.raises(ValueError, match=message):
        autoencoder.feature_sizes(size)


def test_without_decoder():
    autoencoder = Autoencoder(1, 3, ((4, 1),), None)
    assert not any('decoder' in name for name, _ in autoencoder.named_parameters())
    with pytest.raises(RuntimeError, match='without a decoder'):
        autoencoder.decode(autoencoder.encode(torch.rand(1, 1, 8, 8)))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(encoder=()), 'encoder should hold at least one'),
        (dict(encoder=[8, 16]), r'encoder should hold pairs \(channels, stride\) of integers >= 1, but got 8'),
        (dict(encoder=[(8, 0)]), r'pairs .* of integers >= 1, but got \(8, 0\)'),
        (dict(encoder=[(8, 1, 2)]), r'pairs .* of integers >= 1, but got \(8, 1, 2\)'),
        (dict(kernel_size=4), 'kernel_size should be odd.*got 4'),
        (dict(encoder_act='gelu'), "encoder_act should be one of .*'lrelu'.*got 'gelu'"),
        (dict(decoder=('up', 'down')), "decoder should hold 'up' and channel counts"),
        (dict(decoder=(8,)), "total stride 2, but its 'up' steps give 1"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(**{**dict(in_channels=1, kernel_size=3, encoder=((4, 2),), decoder=('up',)), **options})
