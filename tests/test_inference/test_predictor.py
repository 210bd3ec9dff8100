import dataclasses
import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trained import DIGITS, SEGMENTOR, SMALL_UNET, UNET, save_config_model, save_images, save_timm_model

from fg_plugin.inference import FailedImage, list_images, load_model, predict_files, read_image
from fg_plugin.inference.batches import input_batches
from fg_plugin.inference.prediction_folder import picture_names, write_predictions
from fg_plugin.inference.predictions import decode_predictions
from fg_plugin.visualization.prediction_image import colour_pixels


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return load_model(DIGITS, save_config_model(tmp_path_factory.mktemp('digits') / 'digits.pth'))


@pytest.fixture(scope='module')
def unet(tmp_path_factory):
    checkpoint = save_config_model(tmp_path_factory.mktemp('unet') / 'unet.pth', UNET, SMALL_UNET)
    return load_model(UNET, checkpoint, options=SMALL_UNET)


@pytest.fixture
def mixed_folder(tmp_path):
    """Five images, and four files that are none."""
    save_images(tmp_path / 'images', 4)
    folder = tmp_path / 'images'
    (folder / 'sub').mkdir()
    shutil.copy(folder / '000.png', folder / 'sub' / '000.png')
    (folder / 'notes.txt').write_text('no image')
    (folder / 'empty.png').touch()
    noise = Image.effect_noise((200, 200), 80)
    noise.save(folder / 'whole.jpg')
    (folder / 'truncated.jpg').write_bytes((folder / 'whole.jpg').read_bytes()[:4000])
    noise.save(folder / 'chunk.png')
    content = bytearray((folder / 'chunk.png').read_bytes())
    content[60:80] = bytes(20)
    (folder / 'chunk.png').write_bytes(content)
    (folder / 'whole.jpg').unlink()
    (folder / '.hidden').write_text('left out')
    return folder


FAILING = {'notes.txt', 'empty.png', 'truncated.jpg', 'chunk.png'}


@pytest.mark.parametrize('batch_size', [1, 3, 32])
def test_files_that_are_no_images_are_reported_and_the_rest_goes_on(digits, mixed_folder, batch_size):
    files = [*list_images([mixed_folder]), Path('missing.png')]
    results = list(predict_files(digits, files, batch_size))
    assert [result.path for result in results] == files
    failed = {result.path.name: result.error for result in results if isinstance(result, FailedImage)}
    assert failed.keys() == FAILING | {'missing.png'}
    assert all(failed.values())
    assert failed['missing.png'] == 'the file does not exist'
    assert failed['notes.txt'] == 'the file holds no image of a known format'


def test_images_of_16_bits_are_predicted_as_those_of_8(digits, tmp_path):
    (path,) = save_images(tmp_path, 1)
    Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 257).save(tmp_path / '16.png')
    of_8, of_16 = (result.prediction for result in predict_files(digits, [path, tmp_path / '16.png']))
    assert of_16 == of_8


def test_images_of_floating_point_numbers_and_whatever_a_decoder_raises_are_reported(digits, tmp_path, monkeypatch):
    good, path = save_images(tmp_path, 2)
    Image.fromarray(np.random.default_rng(0).random((28, 28), dtype=np.float32)).save(tmp_path / 'float.tiff')
    _, failed = predict_files(digits, [good, tmp_path / 'float.tiff'])
    assert failed.error.startswith('the pixels are floating point numbers, ')

    opened = Image.open

    def failing(name, *args):
        if name == path:
            raise RuntimeError('Failed to decode image')
        return opened(name, *args)

    monkeypatch.setattr(Image, 'open', failing)
    first, second = predict_files(digits, [good, path])
    assert first.prediction
    assert second == FailedImage(path, 'Failed to decode image')


def test_predictions_are_those_of_the_model_whatever_the_batch(digits, tmp_path):
    files = save_images(tmp_path, 5)
    pixels = torch.stack([torch.tensor(list(Image.open(file).getdata())).view(1, 28, 28) / 255 for file in files])
    with torch.no_grad():
        expected = digits.model(pixels, mode='predict')
    for batch_size in (1, 2, 5):
        for result, sample in zip(predict_files(digits, files, batch_size), expected, strict=True):
            assert result.prediction.label == sample['pred_label']
            assert result.prediction.probability == pytest.approx(sample['pred_scores'].max().item(), abs=1e-5)


def test_landmarks_are_in_pixels_of_the_file(unet, tmp_path):
    # Twice as wide and three times as high as the input: each of its pixels becomes 2 x 3 pixels of the file.
    (small,) = save_images(tmp_path, 1, (64, 64), 'RGB')
    large = tmp_path / 'large.png'
    Image.open(small).resize((128, 192), Image.Resampling.NEAREST).save(large)
    of_small, of_large = (torch.tensor(result.prediction.landmarks) for result in predict_files(unet, [small, large]))
    expected = (of_small + 0.5) * torch.tensor([2, 3]) - 0.5
    torch.testing.assert_close(of_large, expected, rtol=0, atol=0.05)
    with torch.no_grad():
        landmarks = unet.outputs(unet.transform(read_image(small, 3)).unsqueeze(0))[1][0]
    torch.testing.assert_close(of_small, landmarks.double().float(), rtol=0, atol=1e-4)


class TestSegmentation:
    @pytest.fixture(scope='class')
    def segmentor(self, tmp_path_factory):
        return load_model(
            SEGMENTOR,
            save_config_model(tmp_path_factory.mktemp('seg') / 'segmentor.pth', SEGMENTOR),
            input_size=(64, 64),
        )

    def test_labels_are_of_pixels_of_the_file(self, segmentor, tmp_path):
        (small,) = save_images(tmp_path, 1, (64, 64), 'RGB')
        large = tmp_path / 'large.png'
        Image.open(small).resize((128, 192), Image.Resampling.NEAREST).save(large)
        of_small, of_large = (result.prediction for result in predict_files(segmentor, [small, large]))
        assert of_large.labels.shape == (192, 128)
        repeated = of_small.labels.repeat(3, 0).repeat(2, 1)
        assert (of_large.labels == repeated).mean() > 0.99
        with torch.no_grad():
            logits = segmentor.network(segmentor.transform(read_image(small, 3)).unsqueeze(0))
        logits = torch.nn.functional.interpolate(logits, (64, 64), mode='bilinear')
        assert np.array_equal(of_small.labels, logits.argmax(1)[0].numpy())
        for label, share in of_small.shares.items():
            assert share == pytest.approx((of_small.labels == label).mean())
        assert sum(of_small.shares.values()) == pytest.approx(1)

    def test_the_folder_holds_masks(self, segmentor, tmp_path):
        files, out = save_images(tmp_path / 'images', 2, (90, 70), 'RGB'), tmp_path / 'out'
        named = dataclasses.replace(segmentor, classes=('ground', 'sky', 'tree'))
        results = list(predict_files(named, files))
        write_predictions(named, results, out, picture_names(files, [tmp_path / 'images']))
        report = json.loads((out / 'predictions.json').read_text())['predicted']
        assert {path.name for path in out.iterdir()} == {
            'predictions.json',
            *(each[kind] for each in report for kind in ('picture', 'mask')),
        }
        for each, result in zip(report, results, strict=True):
            mask = np.array(Image.open(out / each['mask']))
            assert np.array_equal(mask, result.prediction.labels)
            assert each['classes'][0]['name'] == named.classes[np.bincount(mask.flatten()).argmax()]

    def test_one_channel_of_logits_tells_two_classes(self, segmentor):
        logits = torch.tensor([[[[0.5, -0.5], [2, 0]]]])
        size = dataclasses.replace(segmentor, input_size=(3, 2, 2))
        (prediction,) = decode_predictions(size, (logits,), [(2, 2)])
        assert prediction.labels.tolist() == [[1, 0], [1, 0]]

    def test_background_stays_and_other_classes_get_colours(self):
        image = Image.new('RGB', (2, 2), 'grey')
        drawn = np.array(colour_pixels(image, np.array([[0, 1], [2, 1]], dtype=np.int16)))
        assert drawn[0, 0].tolist() == [128, 128, 128]
        assert drawn[0, 1].tolist() == drawn[1, 1].tolist() != drawn[1, 0].tolist()
        assert colour_pixels(image, np.zeros((2, 2), dtype=np.int16)) == image

    def test_many_classes_are_coloured_in_little_memory(self):
        labels = (np.arange(300 * 200, dtype=np.int32) % 150).reshape(200, 300).astype(np.int16)
        image = Image.new('RGB', (300, 200), 'grey')
        tracemalloc.start()
        colour_pixels(image, labels)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 30 * labels.size


def test_one_logit_tells_two_classes(digits):
    logits = torch.tensor([[-3.0], [0.0], [2.0]])
    predictions = decode_predictions(digits, (logits,), [(1, 1)] * 3)
    assert [prediction.label for prediction in predictions] == [0, 0, 1]
    assert [prediction.probability for prediction in predictions] == pytest.approx([0.9526, 0.5, 0.8808], abs=1e-4)


def test_images_are_turned_as_their_exif_data_says(tmp_path):
    image = Image.new('RGB', (40, 20), 'red')
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'turned.jpg', exif=exif)
    assert read_image(tmp_path / 'turned.jpg', 3).size == (20, 40)
    assert read_image(tmp_path / 'turned.jpg', 1).mode == 'L'


def test_an_output_that_is_not_finite_is_reported(tmp_path):
    loaded = load_model(DIGITS, save_config_model(tmp_path / 'digits.pth'))
    with torch.no_grad():
        loaded.model.head.fc.weight.fill_(float('nan'))
    (result,) = predict_files(loaded, save_images(tmp_path / 'images', 1))
    assert result.error == 'the output of the model is not finite'


def test_the_folder_holds_every_picture_and_one_json(digits, mixed_folder, tmp_path):
    files, out = list_images([mixed_folder]), tmp_path / 'out'
    names = picture_names(files, [mixed_folder])
    failed = write_predictions(digits, predict_files(digits, files), out, names)
    report = json.loads((out / 'predictions.json').read_text())
    assert (
        {Path(failure['path']).name for failure in report['failed']} == {each.path.name for each in failed} == FAILING
    )
    assert {each['picture'] for each in report['predicted']} == {
        str(path.relative_to(out)) for path in out.rglob('*.png')
    }
    assert 'sub/000.png.png' in {each['picture'] for each in report['predicted']}
    first = report['predicted'][0]
    assert first.keys() == {'path', 'picture', 'width', 'height', 'label', 'name', 'probability'}
    assert (first['width'], first['height']) == (28, 28)
    assert report['model']['task'] == 'classification'


def test_paths_that_are_no_text(digits, tmp_path):
    (path,) = save_images(tmp_path / 'images', 1)
    named = path.rename(os.fsdecode(os.fsencode(path.parent) + b'/caf\xe9.png'))
    files, out = list_images([tmp_path / 'images']), tmp_path / 'out'
    assert files == [named]
    assert not write_predictions(digits, predict_files(digits, files), out, picture_names(files, files))
    (predicted,) = json.loads((out / 'predictions.json').read_text('ascii'))['predicted']
    assert Path(predicted['path']) == named
    assert (out / predicted['picture']).is_file()


def test_a_picture_that_cannot_be_written_is_a_failed_image(digits, tmp_path):
    paths = save_images(tmp_path / 'images', 3)
    paths[0] = paths[0].rename(paths[0].with_name('n' * 247 + '.png'))
    paths[1] = paths[1].rename(paths[1].with_name('n' * 251 + '.png'))
    out = tmp_path / 'out'
    (failed,) = write_predictions(digits, predict_files(digits, paths), out, picture_names(paths, paths))
    assert failed.path == paths[1]
    assert failed.error.startswith('its picture cannot be written: ')
    report = json.loads((out / 'predictions.json').read_text())
    assert [Path(predicted['path']) for predicted in report['predicted']] == [paths[0], paths[2]]
    assert [failure['path'] for failure in report['failed']] == [str(paths[1])]
    assert len(list(out.iterdir())) == 3


def test_pictures_of_one_name_get_numbers(tmp_path):
    files = [tmp_path / folder / '1.png' for folder in 'abc']
    assert [str(name) for name in picture_names(files, files)] == ['1.png.png', '1.png_2.png', '1.png_3.png']


def test_pictures_of_folders_around_each_other_stay_below_the_folder(tmp_path, monkeypatch):
    for folder in ('here', 'there'):
        save_images(tmp_path / folder, 1)
    monkeypatch.chdir(tmp_path / 'here')
    roots = [Path('.'), Path('../there')]
    names = picture_names(list_images(roots), roots)
    assert [str(name) for name in names] == ['000.png.png', '000.png_2.png']


def test_every_class_needs_a_name(digits, tmp_path):
    few = dataclasses.replace(digits, classes=())
    with pytest.raises(ValueError, match='should name each class, but there are 0 names and class'):
        list(predict_files(few, save_images(tmp_path, 1)))


@pytest.mark.parametrize('channels', [2, 4, 6])
def test_files_are_grey_or_rgb(tmp_path, channels):
    options = dict(num_classes=5, in_chans=channels)
    checkpoint = save_timm_model(tmp_path / 'resnet.pth', **options)
    loaded = load_model('fg_test_resnet', checkpoint, options=options, input_size=(64, 64))
    files = save_images(tmp_path / 'images', 2)
    for read in (predict_files, input_batches):
        with pytest.raises(ValueError, match=rf'to read them from files, but fg_test_resnet takes {channels} channels'):
            read(loaded, files)


def test_batches_hold_their_images_alone(digits, tmp_path):
    paths = save_images(tmp_path, 5)
    batches, _ = input_batches(digits, paths, 2)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert all(batch.untyped_storage().nbytes() == batch.nbytes for batch in batches)
    assert torch.equal(torch.cat(batches), torch.stack([digits.transform(read_image(path, 1)) for path in paths]))


def test_no_path_at_all(digits):
    with pytest.raises(ValueError, match='There should be at least one readable image, but got no path'):
        input_batches(digits, [])


def test_batch_size_is_positive(digits, tmp_path):
    with pytest.raises(ValueError, match='batch_size should be at least 1, but got 0'):
        list(predict_files(digits, save_images(tmp_path, 1), 0))
