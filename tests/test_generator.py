import copy
import pickle
import random
import warnings

import pytest
import torch
from reference import reconstruction_bce
from timm.data.random_erasing import RandomErasing
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

from fg_plugin import convert_
from fg_plugin.generator import FilterGenerator, pending_reconstruction_loss, reconstruction_loss
from fg_plugin.layers import AEFeatureNeck, Autoencoder


def make_generator(weight=1.0, image_size=16, mean=None, std=None):
    autoencoder = Autoencoder(1, 3, ((4, 1), (6, 2)), ('up',) if weight else None)
    neck = AEFeatureNeck(autoencoder.channels, autoencoder.feature_sizes(image_size))
    return FilterGenerator(autoencoder, neck, image_size, weight, mean, std)


def test_codes():
    assert [tuple(code.shape) for code in make_generator()(torch.rand(3, 1, 16, 16))] == [(3, 4), (3, 6)]


def test_images_of_another_size_are_resized():
    generator = make_generator().eval()
    image = torch.rand(1, 1, 1, 1).expand(1, 1, 40, 24)
    for code, expected in zip(generator(image), generator(image[:, :, :16, :16]), strict=True):
        torch.testing.assert_close(code, expected)


def test_reconstruction_loss_is_equation_1():
    generator = make_generator(weight=0.5).double()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    generator(images)
    logits = generator.autoencoder.decode(generator.autoencoder.encode(images))
    torch.testing.assert_close(reconstruction_loss(generator).double(), 0.5 * reconstruction_bce(images, logits))


def test_reconstruction_loss_is_summed_over_the_model_and_taken_once():
    model = nn.ModuleList([make_generator(), make_generator()])
    images = torch.rand(3, 1, 16, 16)
    for generator in model:
        generator(images)
    expected = sum(generator._pending_loss for generator in model)
    torch.testing.assert_close(reconstruction_loss(model), expected)
    assert pending_reconstruction_loss(model) is None
    with pytest.raises(RuntimeError, match='no reconstruction loss to take: it belongs to one training forward'):
        reconstruction_loss(model)


def test_every_parameter_gets_a_gradient():
    generator = make_generator()
    codes = generator(torch.rand(3, 1, 16, 16))
    (sum(code.sum() for code in codes) + reconstruction_loss(generator)).backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


@pytest.mark.parametrize('weight', [0, 1])
def test_no_reconstruction_in_evaluation_or_without_weight(weight):
    generator = make_generator(weight).train(weight == 0)
    generator(torch.rand(3, 1, 16, 16))
    assert pending_reconstruction_loss(generator) is None
    assert reconstruction_loss(generator) == 0


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_leave_the_pending_loss_behind(copied):
    generator = make_generator()
    generator(torch.rand(3, 1, 16, 16))
    assert pending_reconstruction_loss(copied(generator)) is None
    assert reconstruction_loss(generator) is not None


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (
            torch.rand(2, 3, 16, 16),
            r'needs images \(B, C, H, W\) of 1 channels, but got an input of shape \(2, 3, 16, 16\)',
        ),
        (torch.rand(1, 1, 16, 16), 'at least 2 images.*but got 1.*drop_last=True'),
        (torch.full((2, 1, 16, 16), 2.0), r'should be in \[0, 1\], but 100% of the pixels are outside, in \[2, 2\]'),
        (torch.full((2, 1, 16, 16), -1.0), r'should be in \[0, 1\]'),
    ],
)
def test_refuses_images(images, message):
    with pytest.raises(ValueError, match=message):
        make_generator()(images)


# Values of an image, as a share of pixels and what they are.
MNIST = ((0.8, 0.0), (0.1, 0.5), (0.1, 1.0))
NATURAL = ((0.3, 0.2), (0.4, 0.45), (0.3, 0.8))
GREY = ((0.5, 0.45), (0.5, 0.55))


def images_of(values):
    flat = torch.cat([torch.full((round(share * 1024),), value) for share, value in values])
    flat = torch.cat([flat, flat.new_full((1024 - len(flat),), values[0][1])])
    return flat[torch.randperm(1024, generator=torch.Generator().manual_seed(0))].view(1, 1, 32, 32).repeat(2, 1, 1, 1)


@pytest.mark.parametrize('values', [MNIST, NATURAL])
@pytest.mark.parametrize(
    'wrong',
    [
        lambda pixels: 255 * pixels,
        lambda pixels: (pixels - 0.45) / 0.225,
        lambda pixels: 2 * pixels - 1,
        lambda pixels: (pixels - 0.1307) / 0.3081,
    ],
)
def test_refuses_images_of_another_normalisation(values, wrong):
    with pytest.raises(ValueError, match=r'mean and std of fg_plugin\.convert_, input_mean and input_std of'):
        make_generator(image_size=32)(wrong(images_of(values)))


@pytest.mark.parametrize('mode', ['const', 'rand', 'pixel'])
@pytest.mark.parametrize('values', [MNIST, NATURAL, GREY])
def test_random_erasing_of_normalised_images_trains(values, mode):
    mean, std = (0.45,), (0.225,)
    generator = make_generator(image_size=32, mean=mean, std=std)
    torch.manual_seed(0)
    random.seed(0)
    erase = RandomErasing(1.0, mode=mode, device='cpu')
    for _ in range(20):
        generator(erase((images_of(values) - mean[0]) / std[0]))
        assert reconstruction_loss(generator).isfinite()


def test_targets_are_clamped():
    generator = make_generator().double()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    images[0, 0, :4] = 1.5
    images[1, 0, :2] = -0.5
    generator(images)
    logits = generator.autoencoder.decode(generator.autoencoder.encode(images))
    expected = reconstruction_bce(images.clamp(0, 1), logits)
    torch.testing.assert_close(reconstruction_loss(generator).double(), expected)


@pytest.mark.parametrize('batch', [[torch.rand(2, 1, 16, 16), torch.zeros(2)], dict(images=torch.rand(2, 1, 16, 16))])
def test_the_mean_code_needs_batches_of_images(batch):
    generator = make_generator()
    with pytest.raises(TypeError, match=rf'but got a {type(batch).__name__}.*\(images for images, _ in loader\)'):
        generator.mean_codes([batch])
    assert generator.training


def test_warns_once_of_a_loss_that_nothing_takes():
    generator, images = make_generator(), torch.rand(2, 1, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        generator(images)
        reconstruction_loss(generator)
        generator(images)
        generator.eval()(images)
        make_generator(0).train()(images)
        reconstruction_loss(generator.train())
        update_bn([images, images], generator)
        generator(images)
    with pytest.warns(UserWarning, match=r'Nothing has taken the reconstruction loss.*ReconstructionLossHook'):
        generator(images)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        generator(images)


@pytest.mark.parametrize('with_gradients', [True, False])
def test_evaluation_has_no_loss_after_update_bn(with_gradients):
    generator, images = make_generator(), torch.rand(2, 1, 16, 16)
    update_bn([images], generator)
    with torch.set_grad_enabled(with_gradients):
        generator.eval()(images)
        assert reconstruction_loss(generator) == 0


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_recomputation_of_the_whole_network_in_backward(use_reentrant):
    model, images = nn.Sequential(nn.Conv2d(3, 4, 3)), torch.rand(2, 3, 16, 16).requires_grad_()
    convert_(model, mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 16, 16), reconstruction_weight=1.0)
    (model(images).sum() + reconstruction_loss(model)).backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(2):
            output = checkpoint(model, images, use_reentrant=use_reentrant)
            if use_reentrant:
                with pytest.raises(RuntimeError, match=r'has no gradient.*use_reentrant=False'):
                    reconstruction_loss(model)
                output.sum().backward()
                continue
            model.zero_grad()
            (output.sum() + reconstruction_loss(model)).backward()
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(parameter.grad, expected[name])


def test_a_loss_without_gradients_can_be_looked_at():
    generator = make_generator()
    with torch.no_grad():
        generator(torch.rand(2, 1, 16, 16))
        assert reconstruction_loss(generator) > 0
    generator.autoencoder.requires_grad_(False)
    generator(torch.rand(2, 1, 16, 16))
    assert reconstruction_loss(generator) > 0


def test_a_converted_network_warns_of_a_loss_that_nothing_takes():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    convert_(model, mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 16, 16), reconstruction_weight=1.0)
    model(torch.rand(2, 3, 16, 16))
    with pytest.warns(UserWarning, match=r'Add fg_plugin\.reconstruction_loss\(model\) to the loss'):
        model(torch.rand(2, 3, 16, 16))


def test_refuses_a_decoder_that_would_never_run():
    autoencoder = Autoencoder(1, 3, ((4, 1),), ())
    neck = AEFeatureNeck((4,), (8,))
    with pytest.raises(ValueError, match='decoder exactly if reconstruction_weight > 0'):
        FilterGenerator(autoencoder, neck, 8, reconstruction_weight=0)
    with pytest.raises(ValueError, match='reconstruction_weight should be >= 0, but got -1'):
        FilterGenerator(autoencoder, neck, 8, reconstruction_weight=-1)


def test_a_model_without_generator_has_no_reconstruction_loss():
    with pytest.raises(ValueError, match=r'Linear was not converted: use fg_plugin\.convert_'):
        reconstruction_loss(nn.Linear(1, 1))


def test_normalisation_survives_the_meta_device():
    with torch.device('meta'):
        generator = make_generator()
    generator = generator.to_empty(device='cpu')
    assert generator.input_mean.flatten().tolist() == [0.0]
    assert generator.input_std.flatten().tolist() == [1.0]


def test_normalisation_is_exact_again_after_half_precision():
    generator = make_generator(mean=(0.485,), std=(0.229,))
    mean, std = generator.input_mean.clone(), generator.input_std.clone()
    generator.bfloat16()
    assert generator.input_mean.dtype == torch.bfloat16
    generator.float()
    assert torch.equal(generator.input_mean, mean)
    assert torch.equal(generator.input_std, std)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_normalisation_survives_a_load_onto_the_meta_device(dtype):
    trained = make_generator(mean=(0.4,), std=(0.2,)).to(dtype)
    with torch.device('meta'):
        generator = make_generator(mean=(0.4,), std=(0.2,))
    generator.load_state_dict(trained.state_dict(), assign=True)
    images = torch.rand(3, 1, 16, 16, dtype=dtype)
    for code, expected in zip(generator.eval()(images), trained.eval()(images), strict=True):
        assert torch.equal(code, expected)
    assert not any('input_' in key for key in generator.state_dict())


def test_normalisation_survives_a_load_after_to_empty():
    trained = make_generator(mean=(0.4,), std=(0.2,))
    with torch.device('meta'):
        generator = make_generator(mean=(0.4,), std=(0.2,))
    generator.to_empty(device='cpu')
    generator.input_mean.fill_(float('nan'))
    outer = nn.Sequential(generator)
    outer.load_state_dict(nn.Sequential(trained).state_dict())
    assert torch.equal(generator.input_mean, trained.input_mean)


def test_normalisation_waits_for_weights():
    with torch.device('meta'):
        generator = make_generator()
    generator.load_state_dict({}, strict=False, assign=True)
    assert generator.input_mean.is_meta


def test_groups_normalise_each_image_alone():
    autoencoder = Autoencoder(1, 3, ((4, 1), (6, 2)), None, norm='group')
    neck = AEFeatureNeck(autoencoder.channels, autoencoder.feature_sizes(16), norm='group')
    generator = FilterGenerator(autoencoder, neck, 16, reconstruction_weight=0).double()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    for together, alone in zip(generator(images), generator(images[:1]), strict=True):
        torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-12)


def test_codes_of_some_levels_only():
    autoencoder = Autoencoder(1, 3, ((4, 1), (6, 2), (8, 2)), None)
    neck = AEFeatureNeck((4, 8), (16, 4))
    generator = FilterGenerator(autoencoder, neck, 16, reconstruction_weight=0, levels=(0, 2))
    assert [tuple(code.shape) for code in generator(torch.rand(3, 1, 16, 16))] == [(3, 4), (3, 8)]


def test_without_its_decoder_a_generator_gives_the_same_codes():
    generator, images = make_generator().eval(), torch.rand(3, 1, 16, 16)
    expected = generator(images)
    generator.remove_decoder_()
    assert not any('decoder' in name for name in generator.state_dict())
    for code, before in zip(generator.train().eval()(images), expected, strict=True):
        assert torch.equal(code, before)
    generator.train()(images)
    assert pending_reconstruction_loss(generator) is None
