import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from fg_plugin.studies.augmentation import shifted_and_mirrored
from fg_plugin.studies.data import data_names, load_data
from fg_plugin.studies.variations import corrupted, rotated


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    smooth = functional.gaussian_blur(torch.rand(40, 3, 25, 25, generator=seeded(5)), [5, 5], [1.0, 1.0])
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.mark.parametrize('unseen', [False, True])
def test_every_image_is_rotated_by_an_angle_of_its_own(images, unseen):
    out, kinds = rotated(images, seeded(), unseen)
    assert not kinds
    assert torch.equal(out, rotated(images, seeded(), unseen).pixels)
    assert not torch.equal(out, rotated(images, seeded(1), unseen).pixels)
    angles = []
    for image, turned in zip(images, out, strict=True):
        candidates = torch.arange(-90, 90.5, 0.5).tolist()
        # The corners turn out of the image.
        errors = [
            (functional.rotate(image, angle, InterpolationMode.BILINEAR) - turned)[:, 8:17, 8:17].square().mean().item()
            for angle in candidates
        ]
        assert min(errors) < 1e-4
        angles.append(abs(candidates[errors.index(min(errors))]))
    assert max(angles) - min(angles) > 35
    assert (min(angles) >= 44.5) if unseen else (max(angles) <= 45.5)


def test_unseen_corruptions_are_stronger(images):
    (seen, _), (unseen, kinds) = corrupted(images, seeded(), False), corrupted(images, seeded(), True)
    for out in (seen, unseen):
        assert out.min() >= 0
        assert out.max() <= 1
    # One third each: noise, blur and contrast; all of them change the image.
    changes = [(out - images).abs().mean((1, 2, 3)) for out in (seen, unseen)]
    assert (changes[1] > 0.01).all()
    assert (changes[1] > changes[0]).float().mean() > 0.9
    assert sorted(torch.cat(list(kinds.values())).tolist()) == list(range(len(images)))
    contrast = unseen.std((1, 2, 3)) / images.std((1, 2, 3))
    assert ((contrast[kinds['contrast']] > 0.14) & (contrast[kinds['contrast']] < 0.31)).all()
    rough = (unseen - unseen.roll(1, 3)).square().mean((1, 2, 3)) > (images - images.roll(1, 3)).square().mean(
        (1, 2, 3)
    )
    assert rough[kinds['noise']].all()
    assert not rough[kinds['blur']].any()


def test_every_image_is_shifted_and_mirrored_by_itself(images):
    out = shifted_and_mirrored(images, seeded())
    assert torch.equal(out, shifted_and_mirrored(images, seeded()))
    assert not torch.equal(out, shifted_and_mirrored(images, seeded(1)))
    found = []
    shifts = range(-3, 4)  # an eighth of 25 pixels
    for image, changed in zip(images, out, strict=True):
        candidates = {
            (down, right, mirror): functional.affine(
                functional.horizontal_flip(image) if mirror else image, 0.0, [right, down], 1.0, [0.0, 0.0]
            )
            for down in shifts
            for right in shifts
            for mirror in (False, True)
        }
        (change,) = (change for change, candidate in candidates.items() if torch.equal(candidate, changed))
        found.append(change)
    for position, values in enumerate((shifts, shifts, (False, True))):
        assert {change[position] for change in found} == set(values)


def test_augmented_data_is_the_plain_one_until_it_is_trained_on(monkeypatch):
    plain = load_data('digits')
    loaders = {'cifar10': lambda root, split, held_out: plain.train}
    monkeypatch.setattr('fg_plugin.studies.data._LOADERS', loaders)
    data = load_data('cifar10_augmented')
    assert data.augment is shifted_and_mirrored
    assert torch.equal(data.train.pixels, plain.train.pixels)
    assert load_data('cifar10').augment is None
    assert {'cifar10_augmented', 'cifar10_16_augmented'} < set(data_names())


def test_data_sets():
    plain, turned = load_data('digits'), load_data('digits_rotated')
    assert plain.input_size == (1, 28, 28)
    assert plain.unseen is None
    assert not plain.unseen_kinds
    assert torch.equal(plain.train.labels, turned.train.labels)
    assert not torch.equal(plain.test.pixels, turned.test.pixels)
    assert not torch.equal(turned.unseen.pixels, turned.test.pixels)
    assert torch.equal(turned.train.pixels, load_data('digits_rotated').train.pixels)
    assert turned.mean[0] == pytest.approx(turned.train.pixels.mean().item())


def test_held_out_images_are_training_images_that_are_left_out():
    whole, held_out = load_data('digits'), load_data('digits', held_out=True)
    assert len(held_out.train.labels) + len(held_out.test.labels) == len(whole.train.labels)
    tests, training, rest = (
        {image.numpy().tobytes() for image in part.pixels} for part in (whole.test, whole.train, held_out.train)
    )
    left_out = {image.numpy().tobytes() for image in held_out.test.pixels}
    assert left_out <= training
    assert not left_out & (tests | rest)


def test_bad_data(tmp_path):
    assert 'mnist_corrupted' in data_names()
    with pytest.raises(ValueError, match=r"one of digits, .*mnist_rotated.*, but got 'mnist_turned'"):
        load_data('mnist_turned')
    with pytest.raises(FileNotFoundError, match='MNIST is incomplete'):
        load_data('mnist', tmp_path)
