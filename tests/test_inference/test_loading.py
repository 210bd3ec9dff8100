import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader
from trained import DIGITS, FEATURES, SEGMENTOR, SMALL_UNET, UNET, save_config_model, save_images, save_timm_model

from fg_plugin import UnknownArchitectureError
from fg_plugin.hooks.strict_load_hook import CheckpointMismatchError
from fg_plugin.inference import list_images, load_model, predict_files
from fg_plugin.inference.tasks import answers

ROOT = Path(__file__).parents[2]


def test_a_config_tells_task_size_and_classes(tmp_path):
    checkpoint = save_config_model(tmp_path / 'digits.pth', dataset_meta={'classes': tuple('abcdefghij')})
    loaded = load_model(DIGITS, checkpoint)
    assert (loaded.task, loaded.input_size, loaded.classes) == ('classification', (1, 28, 28), tuple('abcdefghij'))
    assert not loaded.network.training
    assert load_model(DIGITS, checkpoint, classes=['x'] * 10).classes == ('x',) * 10


def test_another_number_of_classes_is_refused(tmp_path):
    checkpoint = save_config_model(tmp_path / 'digits.pth')
    with pytest.raises(ValueError, match=r'classes should name each of the 10 classes of .*, but there are 6 names'):
        load_model(DIGITS, checkpoint, classes=list('abcdef'))
    single = save_timm_model(tmp_path / 'single.pth', num_classes=1)
    options = dict(options=dict(num_classes=1), input_size=(64, 64))
    assert load_model('fg_test_resnet', single, classes=['no', 'yes'], **options).classes == ('no', 'yes')


@pytest.mark.parametrize('meta', [None, {'dataset_meta': None}])
def test_a_checkpoint_that_says_nothing_of_its_data(tmp_path, meta):
    checkpoint = save_config_model(tmp_path / 'digits.pth')
    torch.save({**torch.load(checkpoint, weights_only=True), 'meta': meta}, checkpoint)
    assert load_model(DIGITS, checkpoint).classes is None


def test_a_plain_config_loads_and_generates_nothing(tmp_path):
    config = DIGITS.with_name('demo_digits_baseline.py')
    loaded = load_model(config, save_config_model(tmp_path / 'plain.pth', config))
    assert loaded.task == 'classification'
    with pytest.raises(ValueError, match=r'one part that generates filters .* but .*demo_digits_baseline.py has none'):
        _ = loaded.host


def test_a_timm_name_tells_size_and_normalisation(tmp_path):
    options = dict(num_classes=10, in_chans=1)
    loaded = load_model('fg_test_resnet', save_timm_model(tmp_path / 'resnet.pth', **options), options=options)
    assert (loaded.task, loaded.input_size, loaded.classes) == ('classification', (1, 160, 160), None)
    (path,) = save_images(tmp_path / 'images', 1, (200, 180))
    with torch.no_grad():
        (result,) = predict_files(loaded, [path])
    assert result.prediction.name == str(result.prediction.label)
    wide = load_model('fg_test_resnet', tmp_path / 'resnet.pth', options=options, input_size=(64, 96))
    assert wide.input_size == (1, 64, 96)


def test_other_outputs_of_configs(tmp_path):
    segmentor = load_model(SEGMENTOR, save_config_model(tmp_path / 'segmentor.pth', SEGMENTOR), input_size=(64, 64))
    assert (segmentor.task, segmentor.output_names) == ('segmentation', ('logits',))
    features = load_model(FEATURES, save_config_model(tmp_path / 'features.pth', FEATURES), input_size=(64, 64))
    assert (features.task, features.output_names) == ('features', ('features_0', 'features_1'))


@pytest.mark.parametrize('shape', [(2, 7, 4, 4), (2, 7, 4, 6), (2, 4, 4, 7), (2, 16, 7), (2, 7)])
def test_features_are_compared_by_the_means_of_their_channels(shape):
    channels = torch.arange(7.0)
    axis = shape.index(7)
    means = answers(
        'features', (channels.view([7 if index == axis else 1 for index in range(len(shape))]).expand(shape),)
    )
    assert torch.equal(means, channels.expand(2, 7))


def test_the_size_of_the_thumbnail_is_not_taken_for_that_of_the_images(tmp_path):
    checkpoint = save_config_model(tmp_path / 'segmentor.pth', SEGMENTOR)
    with pytest.raises(ValueError, match=r'should be given \(--input-size\), that of the training'):
        load_model(SEGMENTOR, checkpoint)
    assert load_model(SEGMENTOR, checkpoint, input_size=(128, 64)).input_size == (3, 128, 64)


@pytest.mark.parametrize('options', [dict(num_classes=0), dict(features_only=True)])
def test_a_timm_network_without_classes_gives_features(tmp_path, options):
    checkpoint = save_timm_model(tmp_path / 'features.pth', **options)
    loaded = load_model('fg_test_resnet', checkpoint, options=options, input_size=(64, 64))
    assert loaded.task == 'features'
    with torch.no_grad():
        assert len(loaded.outputs(torch.randn(1, 3, 64, 64))) == len(loaded.output_names)
    with pytest.raises(ValueError, match='to predict something, but fg_test_resnet returns features: features_0'):
        predict_files(loaded, save_images(tmp_path / 'images', 1))


def test_outputs_begin_with_the_batch(tmp_path):
    options = {'model.type': 'ToyFeatureExtractor', 'model.mean_only': True}
    checkpoint = save_config_model(tmp_path / 'features.pth', FEATURES)
    with pytest.raises(ValueError, match=r'begin with the batch .* for two images their shapes are \[\(3,\)\]'):
        load_model(FEATURES, checkpoint, options=options, input_size=(64, 64))


def test_a_size_that_a_network_does_not_take(tmp_path):
    checkpoint = save_timm_model(tmp_path / 'vit.pth', 'fg_test_vit')
    with pytest.raises(
        ValueError, match=r'fg_test_vit should run on images of 3x100x100 .*--input-size.*, but it raised'
    ):
        load_model('fg_test_vit', checkpoint, input_size=(100, 100))


def test_outputs_of_imagenet_have_its_names(tmp_path):
    loaded = load_model('test_resnet', save_timm_model(tmp_path / 'resnet.pth', 'test_resnet'))
    assert loaded.classes[:2] == ('tench, Tinca tinca', 'goldfish, Carassius auratus')


@pytest.mark.parametrize(
    ('source', 'options', 'error', 'message'),
    [
        ('fg_tset_resnet', {}, UnknownArchitectureError, 'Closest names: test_resnet'),
        ('configs/demo_digit.py', {}, FileNotFoundError, 'the closest are configs/demo_digits.py'),
        ('fg_test_resnet', {'num_classes': 5}, ValueError, r'created here \(num_classes=5\).* such as num_classes=10'),
        ('fg_test_resnet', {'features_only': True}, ValueError, r'created here \(features_only=True\)'),
        (str(DIGITS), {}, CheckpointMismatchError, 'missing in the checkpoint: backbone.backbone.conv1.bias'),
    ],
)
def test_a_wrong_model_is_named(tmp_path, monkeypatch, source, options, error, message):
    monkeypatch.chdir(ROOT)
    checkpoint = save_timm_model(tmp_path / 'resnet.pth', num_classes=10)
    with pytest.raises(error, match=message):
        load_model(source, checkpoint, options=options)


@pytest.mark.parametrize('source', ['fg_test_resnet', DIGITS])
@pytest.mark.parametrize('name', ['weights.pth', 'weights.safetensors'])
def test_a_damaged_checkpoint_is_named(tmp_path, source, name):
    with pytest.raises(FileNotFoundError, match=f'existing file, but got .*{name}'):
        load_model(source, tmp_path / name)
    whole = save_timm_model(tmp_path / f'whole_{name}', num_classes=10).read_bytes()
    for content in (b'\x80\x02nothing of use', whole[: len(whole) // 2], whole[:5000], b''):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'whole file of torch.save or safetensors, but .*{name} is damaged'):
            load_model(source, tmp_path / name)


def test_what_is_no_state_dict_is_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match=r'a checkpoint should hold a state dict, but .*list.pth holds a list'):
        load_model(DIGITS, tmp_path / 'list.pth')
    with pytest.raises(ValueError, match=r'a checkpoint should hold a state dict, but .*list.pth holds a list'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'list.pth'))


class Malicious:
    def __reduce__(self):
        return os.system, ('echo run',)


@pytest.mark.parametrize('source', ['fg_test_resnet', DIGITS])
def test_a_checkpoint_runs_no_code(tmp_path, source, capfd):
    torch.save({'state_dict': Malicious()}, tmp_path / 'bad.pth')
    with pytest.raises(
        ValueError, match=r'tensors and plain values only, but .*bad.pth asks for more.*nothing of it was run'
    ):
        load_model(source, tmp_path / 'bad.pth')
    assert 'run' not in capfd.readouterr().out.splitlines()


def test_landmarks_need_a_codec_and_size_from_the_config(tmp_path):
    loaded = load_model(UNET, save_config_model(tmp_path / 'unet.pth', UNET, SMALL_UNET), options=SMALL_UNET)
    assert (loaded.task, loaded.input_size) == ('landmarks', (3, 64, 64))


def test_timm_names_work_without_mmengine(tmp_path):
    save_timm_model(tmp_path / 'resnet.pth', num_classes=10)
    save_images(tmp_path / 'images', 6, (64, 64), 'RGB')
    model, options = ['fg_test_resnet', 'resnet.pth'], ['--input-size', '64', '--model-kwargs', 'num_classes=10']
    calls = {
        'export': [*model, *options, '--format', 'safetensors'],
        'infer': [*model, 'images', *options, '--out-dir', 'predicted'],
        'analyze_filters': [*model, *options, '--images', 'images', '--out-dir', 'analysis', '--only', 'variance'],
    }
    code = f"""
import runpy, sys
sys.modules['mmengine'] = sys.modules['mmcv'] = None
for tool, arguments in {calls!r}.items():
    sys.argv = [tool, *map(str, arguments)]
    try:
        runpy.run_path(r'{ROOT}/tools/' + tool + '.py', run_name='__main__')
    except SystemExit as done:
        assert not done.code, tool
sys.argv = ['infer', r'{DIGITS}', 'resnet.pth', 'images', '--out-dir', 'out']
runpy.run_path(r'{ROOT}/tools/infer.py', run_name='__main__')
"""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert (tmp_path / 'analysis' / 'analysis.json').is_file(), done.stderr
    # A config needs it, which is one message.
    assert done.returncode == 1
    assert "pip install 'fg-plugin[mm]'" in done.stderr
    assert 'Traceback' not in done.stderr


def test_pictures_that_were_drawn_before_are_no_images(tmp_path):
    save_images(tmp_path / 'images', 2)
    save_images(tmp_path / 'images' / 'out' / 'deep', 3)
    names = {path.name for path in (tmp_path / 'images').iterdir() if path.is_file()}
    listed = list_images([tmp_path / 'images'], leave_out=tmp_path / 'images' / '..' / 'images' / 'out')
    assert {path.name for path in listed} == names
    assert len(listed) == 2
    with pytest.raises(ValueError, match=r'images/out should not be a folder of images, as it is written to'):
        list_images([tmp_path / 'images' / 'out'], leave_out=tmp_path / 'images' / 'out')


def test_linked_folders_are_folders(tmp_path):
    save_images(tmp_path / 'a', 1)
    save_images(tmp_path / 'classes' / '.hidden', 1)
    for name in ('cat', 'dog'):
        (tmp_path / 'classes' / name).symlink_to(tmp_path / 'a')
    # Each of these leads back to itself.
    (tmp_path / 'a' / 'around').symlink_to(tmp_path / 'classes')
    (tmp_path / 'classes' / 'self').symlink_to('self')
    listed = list_images([tmp_path / 'classes'])
    assert listed == [tmp_path / 'classes' / name / '000.png' for name in ('cat', 'dog')]
    assert list_images([tmp_path / 'classes'], leave_out=tmp_path / 'classes' / 'out') == listed
    with pytest.raises(ValueError, match='at least one image, but got '):
        list_images([tmp_path / 'classes'], leave_out=tmp_path / 'a')


def test_no_image_at_all(tmp_path):
    with pytest.raises(ValueError, match='at least one image, but got '):
        list_images([tmp_path])
