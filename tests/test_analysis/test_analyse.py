import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from trained import DIGITS, FEATURES, SEGMENTOR, SMALL_UNET, UNET, save_config_model, save_images, save_timm_model

from fg_plugin import NothingMatchedError
from fg_plugin.analysis.analyse import _draw_swap, analyse
from fg_plugin.analysis.colouring import colour_samples
from fg_plugin.analysis.coordinates import coefficient_coordinates, filter_coordinates
from fg_plugin.analysis.embedding import embed
from fg_plugin.analysis.layer_choice import drawn_layers, layers_of
from fg_plugin.analysis.recording import MAX_MAP_VALUES, record, record_swapped
from fg_plugin.analysis.samples import Samples, samples_from_config, samples_from_files, spread
from fg_plugin.analysis.swap import compare_swapped
from fg_plugin.inference import list_images, load_model
from fg_plugin.swapping import other_images

RESNET = dict(num_classes=4)


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return load_model(DIGITS, save_config_model(tmp_path_factory.mktemp('digits') / 'digits.pth'))


@pytest.fixture(scope='module')
def resnet(tmp_path_factory):
    checkpoint = save_timm_model(tmp_path_factory.mktemp('resnet') / 'resnet.pth', **RESNET)
    return load_model('fg_test_resnet', checkpoint, options=RESNET, input_size=(64, 64))


@pytest.fixture(scope='module')
def unet(tmp_path_factory):
    checkpoint = save_config_model(tmp_path_factory.mktemp('unet') / 'unet.pth', UNET, SMALL_UNET)
    return load_model(UNET, checkpoint, options=SMALL_UNET)


@pytest.fixture
def class_folders(tmp_path):
    """Three images each of the classes 0 to 3."""
    for label in range(4):
        save_images(tmp_path / 'classes' / str(label), 3, (64, 64), 'RGB')
    return list_images([tmp_path / 'classes'])


@pytest.mark.parametrize(
    ('task', 'result'),
    [
        ('classification', {'accuracy_own': 0.9, 'accuracy_swapped': 0.2, 'chance': 0.1}),
        ('landmarks', {'mean_error_own': 1.5, 'mean_error_swapped': 7.0, 'mean_shift': 6.0}),
    ],
)
def test_own_and_swapped_filters_have_a_bar_each(task, result):
    (axes,) = _draw_swap(task, result).axes
    own, swapped = list(result.values())[:2]
    assert [bar.get_height() for bar in axes.patches] == [own, swapped]
    assert [label.get_text() for label in axes.get_xticklabels()] == ['own filters', "another image's"]


class TestWholeAnalysis:
    def test_of_a_config_writes_everything_and_repeats_itself(self, digits, tmp_path):
        samples = samples_from_config(digits, 30)
        summaries = [analyse(digits, samples, tmp_path / run, seed=3) for run in ('first', 'second')]
        assert summaries[0] == summaries[1]
        assert json.loads((tmp_path / 'first' / 'analysis.json').read_text()) == summaries[0]
        names = {path.name for path in (tmp_path / 'first').iterdir()}
        arrays = {'tsne.npz', 'swap.npz', 'variance.npz', 'filters.npz'}
        pictures = {'tsne.png', 'swap.png', 'variance.png', 'filters_conv1.png', 'filters_conv2.png'}
        assert names == arrays | pictures | {'analysis.json'}
        for name in arrays:
            first, second = (np.load(tmp_path / run / name) for run in ('first', 'second'))
            assert first.files
            for key in first.files:
                assert np.array_equal(first[key], second[key]), (name, key)
        points = np.load(tmp_path / 'first' / 'tsne.npz')
        kinds = [
            f'{layer}/{kind}' for layer in ('conv1', 'conv2') for kind in ('coefficients', 'filters', 'feature maps')
        ]
        assert set(points.files) == {*kinds, 'colours'}
        assert all(points[kind].shape == (30, 2) for kind in kinds)
        filters = np.load(tmp_path / 'first' / 'filters.npz')
        assert filters['conv1/base'].shape == (5, 1, 5, 5)
        assert filters['conv1/generated'].shape == (6, 5, 1, 5, 5)
        assert Image.open(tmp_path / 'first' / 'tsne.png').width > 500

    def test_the_points_are_those_of_their_features_and_samples(self, digits, tmp_path, monkeypatch):
        # The embedding itself keeps too little to tell one feature from another.
        monkeypatch.setattr('fg_plugin.analysis.analyse.embed', lambda values, seed: values[:, :2].double().numpy())
        samples = samples_from_config(digits, 30)
        analyse(digits, samples, tmp_path, parts=['tsne'])
        points = np.load(tmp_path / 'tsne.npz')
        layers = layers_of(digits)
        recording = record(digits, samples.inputs, list(layers))
        for name, layer in layers.items():
            code = recording.codes[layer.level]
            expected = {
                'coefficients': coefficient_coordinates(layer, code),
                'filters': filter_coordinates(layer, code),
                'feature maps': recording.maps[name].double(),
            }
            for kind, values in expected.items():
                assert points[f'{name}/{kind}'] == pytest.approx(values[:, :2].numpy())
        assert points['colours'].tolist() == samples.labels.tolist()

    def test_of_a_timm_model_on_a_folder(self, resnet, class_folders, tmp_path):
        samples = samples_from_files(resnet, class_folders, 100)
        layers = ['conv1.0', '*downsample*']
        summary = analyse(resnet, samples, tmp_path / 'out', parts=['filters', 'variance', 'swap'], layers=layers)
        assert summary['drawn_layers'] == [name for name in summary['layers'] if 'down' in name or name == 'conv1.0']
        assert summary['variance']['layers'].keys() == set(summary['layers'])
        assert summary['variance']['collapsed'] == []
        assert summary['swap'].keys() == {'agreement', 'chance', 'accuracy_own', 'accuracy_swapped'}
        assert 'tsne.png' not in {path.name for path in (tmp_path / 'out').iterdir()}

    def test_of_landmarks(self, unet, tmp_path):
        samples = samples_from_config(unet, 6)
        summary = analyse(unet, samples, tmp_path, parts=['swap', 'variance'])
        assert summary['swap'].keys() == {'mean_shift', 'mean_error_own', 'mean_error_swapped'}
        colouring = colour_samples(unet, samples, samples.landmarks)
        assert colouring.names is None
        first, second = samples.landmarks[0, :2].double()
        angle = np.degrees(np.arctan2(second[1] - first[1], second[0] - first[0]))
        assert colouring.values[0] == pytest.approx(angle.item())

    def test_of_a_segmentor(self, tmp_path):
        loaded = load_model(SEGMENTOR, save_config_model(tmp_path / 'segmentor.pth', SEGMENTOR), input_size=(64, 64))
        samples = samples_from_files(loaded, save_images(tmp_path / 'images', 6, (64, 64), 'RGB'), 6)
        summary = analyse(loaded, samples, tmp_path / 'out')
        with torch.no_grad():
            labels = loaded.network(samples.inputs).argmax(1)
        assert len(labels.unique()) == 3
        arrays = np.load(tmp_path / 'out' / 'swap.npz')
        assert np.array_equal(arrays['own'], labels.numpy())
        assert summary['swap'] == {
            'agreement': pytest.approx((arrays['own'] == arrays['swapped']).mean()),
            'chance': pytest.approx(labels.flatten().bincount().max().item() / labels.numel()),
        }
        assert 0.3 < summary['swap']['agreement'] < 1
        colouring = colour_samples(loaded, samples, labels)
        assert colouring.names is None
        commonest = labels.flatten().bincount().argmax()
        assert colouring.title == f'share of {commonest} (predicted)'
        assert colouring.values[2] == pytest.approx((labels[2] == commonest).double().mean().item())
        assert (tmp_path / 'out' / 'tsne.png').is_file()

    def test_of_features(self, tmp_path):
        loaded = load_model(FEATURES, save_config_model(tmp_path / 'features.pth', FEATURES), input_size=(64, 64))
        samples = samples_from_files(loaded, save_images(tmp_path / 'images', 6, (64, 64), 'RGB'), 6)
        summary = analyse(loaded, samples, tmp_path / 'out')
        arrays = np.load(tmp_path / 'out' / 'swap.npz')
        with torch.no_grad():
            maps = loaded.network(samples.inputs)['maps'][0]
        np.testing.assert_allclose(arrays['own'][:, :4], maps.mean((2, 3)).numpy(), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(arrays['own'][:, 4:], samples.inputs.mean((2, 3)).numpy(), rtol=1e-5)
        assert summary['swap'].keys() == {'relative_shift'}
        assert 1e-5 < summary['swap']['relative_shift'] < 1
        assert (tmp_path / 'out' / 'tsne.png').is_file()

    def test_bad_input(self, digits, unet, tmp_path):
        samples = samples_from_config(digits, 5)
        with pytest.raises(NothingMatchedError, match=r"'conv3' matches none of: conv1, conv2"):
            analyse(digits, samples, tmp_path, layers=['conv1', 'conv3'])
        with pytest.raises(ValueError, match=r"among .* but got 'tsen'"):
            analyse(digits, samples, tmp_path, parts=['tsen'])
        with pytest.raises(ValueError, match='at least 5 images to compare, but got 4'):
            analyse(digits, samples_from_config(digits, 4), tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_plain_model_has_no_filters_to_look_at(self, tmp_path):
        config = DIGITS.with_name('demo_digits_baseline.py')
        plain = load_model(config, save_config_model(tmp_path / 'plain.pth', config))
        with pytest.raises(ValueError, match='should have one part that generates filters'):
            analyse(plain, samples_from_config(plain, 6), tmp_path / 'out')


class TestSamples:
    def test_folders_named_by_classes_label_their_images(self, resnet, class_folders, tmp_path):
        assert samples_from_files(resnet, class_folders, 100).labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
        others = save_images(tmp_path / 'others', 2, (64, 64), 'RGB')
        assert samples_from_files(resnet, [*class_folders, *others], 100).labels is None

    def test_folders_are_named_or_numbered_where_the_names_of_the_classes_are_known(self, resnet, tmp_path):
        def labels(*folders, classes=('cat', 'dog', '0', 'owl')):
            paths = [path for folder in folders for path in save_images(tmp_path / folder, 1, (64, 64), 'RGB')]
            found = samples_from_files(dataclasses.replace(resnet, classes=classes), paths, 100).labels
            return None if found is None else found.tolist()

        assert labels('dog', 'cat') == [1, 0]
        assert labels('3', '1', '0') == [3, 1, 0]
        # A name goes before a number, and both together are none.
        assert labels('dog', '0') == [1, 2]
        assert labels('dog', '1') is None
        assert labels('4', '1') is None

    @pytest.mark.parametrize(('logits', 'last'), [(5, 4), (1, 1), (2, 1)])
    def test_numbers_are_those_of_classes_of_the_model(self, resnet, tmp_path, logits, last):
        def labels(*folders):
            paths = [path for folder in folders for path in save_images(tmp_path / folder, 1, (64, 64), 'RGB')]
            found = samples_from_files(loaded, paths, 100).labels
            return None if found is None else found.tolist()

        loaded = dataclasses.replace(resnet, network=lambda inputs: inputs.new_zeros(len(inputs), logits))
        assert labels('0', str(last)) == [0, last]
        assert labels('0', str(last + 1)) is None
        assert labels('2024', '2025') is None

    def test_unreadable_files_are_left_out_with_their_labels(self, resnet, class_folders):
        class_folders[3].write_text('no image')
        samples = samples_from_files(resnet, class_folders, 100)
        assert samples.labels.tolist() == [0] * 3 + [1] * 2 + [2] * 3 + [3] * 3
        assert [failure.path for failure in samples.failed] == [class_folders[3]]
        assert len(samples.inputs) == 11

    def test_a_timm_model_has_no_test_set(self, resnet):
        with pytest.raises(ValueError, match=r'given \(--images\), because fg_test_resnet has no config'):
            samples_from_config(resnet, 10)

    def test_spread(self):
        assert spread(10, 4) == [0, 2, 5, 7]
        assert spread(3, 4) == [0, 1, 2]
        with pytest.raises(ValueError, match='at least 2, but got 1'):
            spread(3, 1)


class TestRecording:
    def test_holds_codes_maps_and_outputs_of_every_sample(self, digits):
        inputs = samples_from_config(digits, 7).inputs
        recording = record(digits, inputs, ['conv2'], batch_size=3)
        seen = []
        layers_of(digits)['conv2'].register_forward_hook(lambda module, args, out: seen.append(out.flatten(1)))
        with torch.no_grad():
            outputs = digits.network(inputs)
            codes = digits.generator(inputs)
        torch.testing.assert_close(recording.answers, outputs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(recording.maps['conv2'], seen[0], rtol=1e-4, atol=1e-5)
        for code, expected in zip(recording.codes, codes, strict=True):
            torch.testing.assert_close(code, expected, rtol=1e-4, atol=1e-5)

    def test_large_maps_are_averaged(self, resnet):
        inputs = torch.randn(2, 3, 160, 160)
        recording = record(resnet, inputs, ['layer1.0.conv1', 'layer4.0.conv1'])
        assert recording.maps['layer1.0.conv1'].shape == (2, MAX_MAP_VALUES // 32 // 16 * 16 * 32)
        assert recording.maps['layer4.0.conv1'].shape[1] < MAX_MAP_VALUES

    def test_swapped_outputs_have_the_filters_of_the_others(self, digits):
        inputs = samples_from_config(digits, 5).inputs
        others = other_images(5, seed=0)
        swapped = record_swapped(digits, inputs, others, batch_size=2)
        for index in range(5):
            with torch.no_grad(), digits.conditioned_on(inputs[others[index]].unsqueeze(0)):
                expected = digits.network(inputs[index : index + 1])
            torch.testing.assert_close(swapped[index : index + 1], expected, rtol=1e-4, atol=1e-5)


def test_swap_results():
    own = torch.tensor([[2.0, 1], [2, 1], [1, 2], [1, 2]])
    swapped = torch.tensor([[2.0, 1], [1, 2], [2, 1], [1, 2]])
    samples = Samples(torch.zeros(4, 1, 1, 1), '', torch.tensor([0, 0, 0, 1]))
    expected = {'agreement': 0.5, 'chance': 0.5, 'accuracy_own': 0.75, 'accuracy_swapped': 0.75}
    assert compare_swapped('classification', samples, own, swapped) == expected
    points = torch.zeros(2, 3, 2)
    moved = points + torch.tensor([3.0, 4.0])
    samples = Samples(torch.zeros(2, 1, 1, 1), '', landmarks=points)
    assert compare_swapped('landmarks', samples, points, moved) == {
        'mean_shift': 5,
        'mean_error_own': 0,
        'mean_error_swapped': 5,
    }


def test_swap_results_of_one_logit(resnet):
    own, swapped = torch.tensor([[-1.0], [-1], [1], [1]]), torch.tensor([[-1.0], [1], [1], [1]])
    samples = Samples(torch.zeros(4, 1, 1, 1), '', torch.tensor([0, 1, 1, 1]))
    expected = {'agreement': 0.75, 'chance': 0.5, 'accuracy_own': 0.75, 'accuracy_swapped': 1.0}
    assert compare_swapped('classification', samples, own, swapped) == expected
    assert colour_samples(resnet, samples._replace(labels=None), own).values.tolist() == [0, 0, 1, 1]


def test_swapped_pixels_and_features():
    own = torch.tensor([[[0, 1], [1, 2]]])
    swapped = torch.tensor([[[0, 1], [2, 1]]])
    samples = Samples(torch.zeros(1, 1, 1, 1), '')
    assert compare_swapped('segmentation', samples, own, swapped) == {'agreement': 0.5, 'chance': 0.5}
    features = torch.tensor([[2.0, 0], [-2, 1]])
    result = compare_swapped('features', samples, features, features + torch.tensor([3.0, 0]))
    assert result == {'relative_shift': pytest.approx((18 / 9) ** 0.5)}


def test_embedding_separates_clusters_and_depends_on_its_seed_only():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0, 0, 0], [50, 0, 0, 0], [0, 50, 0, 0]]).repeat_interleave(10, 0)
    features = centres + torch.randn(30, 4)
    points = embed(features, seed=1)
    assert np.array_equal(points, embed(features, seed=1))
    groups = points.reshape(3, 10, 2)
    within = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=-1).max()
    between = min(np.linalg.norm(groups[i].mean(0) - groups[j].mean(0)) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert between > 2 * within


def test_vectors_that_are_all_the_same_are_not_embedded():
    assert embed(torch.ones(10, 4), seed=0) is None
    assert embed(torch.zeros(10, 4), seed=0) is None


def test_at_most_six_layers_are_drawn_unless_named():
    names = [f'conv{index}' for index in range(20)]
    assert drawn_layers(names, None) == ['conv0', 'conv4', 'conv8', 'conv11', 'conv15', 'conv19']
    assert drawn_layers(names[:3], None) == names[:3]
    assert drawn_layers(names, ['conv1*']) == ['conv1', *names[10:]]
