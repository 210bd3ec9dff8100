"""Exported files, as other programs load them."""

import copy
import dataclasses
import json
import re
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import timm
import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from safetensors import safe_open
from trained import DIGITS, FEATURES, SEGMENTOR, SMALL_UNET, UNET, save_config_model, save_images, save_timm_model

from fg_plugin.convert import convert_, freeze_
from fg_plugin.export import FORMATS, ExportMismatchError, agreement, default_path, export_file, program
from fg_plugin.export.export_file import check_output
from fg_plugin.inference import config_model, load_model
from fg_plugin.inference.batches import input_batches
from fg_plugin.inference.tasks import output_tensors
from fg_plugin.launch import read_config
from fg_plugin.models import MNISTNet

RESNET = dict(num_classes=10, fg_rank=4, fg_reconstruction_weight=1.0)


def converted_mnist_net(**options):
    """A backbone with generated filters of its own, as timm's fg_ names have them."""
    net = MNISTNet(**options)
    convert_(net, mean=(0.0,), std=(1.0,), input_size=(1, 28, 28))
    return net


class ConvModuleNet(BaseModule):
    """A backbone whose config tells the type of its layers."""

    def __init__(self, conv_cfg=None):
        super().__init__()
        self.block = ConvModule(1, 6, 3, stride=4, padding=1, conv_cfg=conv_cfg)

    def forward(self, x):
        return (self.block(x),)


@pytest.fixture
def digits(tmp_path):
    return load_model(DIGITS, save_config_model(tmp_path / 'digits.pth'))


@pytest.fixture
def resnet(tmp_path):
    checkpoint = save_timm_model(tmp_path / 'resnet.pth', **RESNET)
    return load_model('fg_test_resnet', checkpoint, options=RESNET, input_size=(64, 64))


@pytest.fixture
def unet(tmp_path):
    checkpoint = save_config_model(tmp_path / 'unet.pth', UNET, SMALL_UNET)
    return load_model(UNET, checkpoint, options=SMALL_UNET)


@pytest.fixture
def segmentor(tmp_path):
    return load_model(SEGMENTOR, save_config_model(tmp_path / 'segmentor.pth', SEGMENTOR), input_size=(64, 64))


@pytest.fixture
def features(tmp_path):
    return load_model(FEATURES, save_config_model(tmp_path / 'features.pth', FEATURES), input_size=(64, 64))


@torch.no_grad()
def run_onnx(path, inputs):
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {'images': inputs.numpy()}), strict=True))


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 6])
def test_example_inputs_of_any_channels(tmp_path, channels):
    options = dict(num_classes=5, in_chans=channels)
    checkpoint = save_timm_model(tmp_path / 'resnet.pth', **options)
    resnet = load_model('fg_test_resnet', checkpoint, options=options, input_size=(64, 64))
    size = (channels, 28, 32)
    of_config = dataclasses.replace(resnet, input_size=size, transform=config_model._Resize(size))
    inputs = agreement.example_inputs(of_config, 3)
    assert inputs.shape == (3, *size)
    assert inputs.min() >= 0
    assert inputs.max() <= 1
    inputs = agreement.example_inputs(resnet, 3)
    assert inputs.shape == (3, channels, 64, 64)
    assert resnet.outputs(inputs)[0].shape == (3, 5)
    # Each channel is a picture of its own.
    assert (inputs[:, 1:] - inputs[:, :-1]).abs().flatten(2).amax(2).gt(0.1).all()


def test_a_network_of_six_channels_is_exported(tmp_path):
    options = dict(num_classes=5, in_chans=6)
    checkpoint = save_timm_model(tmp_path / 'resnet.pth', **options)
    loaded = load_model('fg_test_resnet', checkpoint, options=options, input_size=(64, 64))
    export_file(loaded, 'exported_program', tmp_path / 'out.pt2')
    assert (tmp_path / 'out.pt2').is_file()


@pytest.mark.parametrize(
    'name',
    ['digits', *(pytest.param(name, marks=pytest.mark.slow) for name in ('resnet', 'unet', 'segmentor', 'features'))],
)
def test_onnx_equals_eager_at_any_batch_size_and_has_no_decoder(request, tmp_path, name):
    loaded = request.getfixturevalue(name)
    assert any('decoder' in key for key in loaded.model.state_dict())
    inputs = agreement.example_inputs(loaded, 5, seed=1)
    with torch.no_grad():
        expected = loaded.outputs(inputs)
    # Otherwise a graph with one image's filters for all would pass.
    assert not torch.allclose(expected[0], expected[0][:1], rtol=1e-2)
    report = export_file(loaded, 'onnx', tmp_path / 'out.onnx')
    assert '(B=1)' in report
    assert '(B=8)' in report
    out = run_onnx(tmp_path / 'out.onnx', inputs)
    assert tuple(out) == loaded.output_names
    for value, eager in zip(out.values(), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(value), eager, rtol=1e-4, atol=1e-4 * eager.abs().max().item())
    graph = onnx.load(tmp_path / 'out.onnx').graph
    assert graph.initializer
    assert not any('decoder' in tensor.name for tensor in graph.initializer)


def test_the_graph_of_a_config_normalises_pixels(tmp_path):
    options = {'model.data_preprocessor.mean': [0.4], 'model.data_preprocessor.std': [0.2]}
    loaded = load_model(DIGITS, save_config_model(tmp_path / 'digits.pth'), options=options)
    inputs = agreement.example_inputs(loaded, 2)
    data = loaded.model.data_preprocessor({'inputs': inputs})
    with torch.no_grad():
        assert torch.equal(loaded.outputs(inputs)[0], loaded.model(data['inputs']))
    assert not torch.equal(data['inputs'], inputs)


def test_the_landmark_graph_decodes_points_in_pixels(unet, tmp_path):
    inputs = agreement.example_inputs(unet, 3)
    with torch.no_grad():
        heatmaps, landmarks = unet.outputs(inputs)
        predicted = unet.model(unet.normalise(inputs), mode='predict')
    assert heatmaps.shape == (3, 5, 64, 64)
    assert torch.equal(landmarks, torch.stack([sample['pred_landmarks'] for sample in predicted]))


def test_an_exported_program_reloads_without_a_decoder(digits, tmp_path):
    inputs = agreement.example_inputs(digits, 5, seed=1)
    with torch.no_grad():
        expected = digits.network(inputs)
    export_file(digits, 'exported_program', tmp_path / 'out.pt2')
    exported = torch.export.load(tmp_path / 'out.pt2')
    assert not any('decoder' in name for name in exported.state_dict)
    torch.testing.assert_close(exported.module()(inputs), expected, rtol=1e-4, atol=1e-5)


def test_a_graph_that_computes_something_else_leaves_no_file(digits, tmp_path, monkeypatch):
    to_graph = program.to_graph
    monkeypatch.setattr(program, 'to_graph', lambda loaded: to_graph(with_other_weights(loaded)))
    with pytest.raises(ExportMismatchError, match=r'logits of the exported network .* for 1 images they differ by'):
        export_file(digits, 'exported_program', tmp_path / 'out.pt2')
    assert {path.name for path in tmp_path.iterdir()} == {'digits.pth'}


def with_other_weights(loaded):
    other = copy.deepcopy(loaded)
    torch.nn.init.ones_(other.model.head.fc.bias)
    return other


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (lambda logits: logits[:1].expand_as(logits), 'for 3 images they differ by'),
        (lambda logits: logits[:, 1:], r'should have shape \(1, 10\), but got \(1, 9\)'),
        (lambda logits: logits * float('nan'), 'for 1 images they differ by nan'),
    ],
)
def test_every_disagreement_is_an_error(digits, wrong, message):
    with pytest.raises(ExportMismatchError, match=message):
        agreement.largest_errors(digits, lambda inputs: [wrong(digits.network(inputs))])


class TestSafetensors:
    def test_timm_loads_them(self, resnet, tmp_path):
        export_file(resnet, 'safetensors', tmp_path / 'out.safetensors')
        model = timm.create_model('fg_test_resnet', checkpoint_path=str(tmp_path / 'out.safetensors'), **RESNET).eval()
        inputs = agreement.example_inputs(resnet, 2)
        with torch.no_grad():
            assert torch.equal(model(inputs), resnet.model(inputs))

    def test_the_options_are_in_the_file(self, resnet, tmp_path):
        path = tmp_path / 'out.safetensors'
        export_file(resnet, 'safetensors', path)
        with safe_open(path, 'pt') as file:
            about = json.loads(file.metadata()['fg_plugin'])
        assert (about['source'], about['options']) == ('fg_test_resnet', RESNET)
        assert about['version']
        assert load_model('fg_test_resnet', path).options == RESNET
        with pytest.raises(ValueError, match=r'belong to fg_resnet18, but .* was exported from fg_test_resnet'):
            load_model('fg_resnet18', path)

    def test_of_a_config(self, tmp_path):
        checkpoint = save_config_model(tmp_path / 'digits.pth', dataset_meta={'classes': list('abcdefghij')})
        loaded, path = load_model(DIGITS, checkpoint), tmp_path / 'out.safetensors'
        export_file(loaded, 'safetensors', path)
        again = load_model(DIGITS, path)
        inputs = agreement.example_inputs(loaded, 2)
        with torch.no_grad():
            assert torch.equal(again.network(inputs), loaded.network(inputs))
        assert again.classes == tuple('abcdefghij')


class TestFrozen:
    def test_timm_loads_it_without_this_package(self, resnet, tmp_path):
        paths = save_images(tmp_path / 'images', 4, (64, 64), 'RGB')
        batches, _ = input_batches(resnet, paths)
        report = export_file(resnet, 'frozen', tmp_path / 'plain.pth', batches=batches)
        assert 'a plain ResNet loads it; on these 4 images it predicts the same class' in report
        inputs = agreement.example_inputs(resnet, 2)
        with torch.no_grad():
            torch.save((inputs, resnet.model(inputs)), tmp_path / 'expected.pt')
        code = f"""
import sys
sys.modules['fg_plugin'] = None
import timm, torch
model = timm.create_model('test_resnet', num_classes=10, checkpoint_path=r'{tmp_path / 'plain.pth'}').eval()
inputs, expected = torch.load(r'{tmp_path / 'expected.pt'}')
with torch.no_grad():
    assert torch.equal(model(inputs), expected)
print('loaded')
"""
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=100)
        assert done.stdout == 'loaded\n', done.stderr

    def test_has_the_mean_filters_of_the_images(self, resnet, tmp_path):
        batches, _ = input_batches(resnet, save_images(tmp_path / 'images', 5, (64, 64), 'RGB'), batch_size=2)
        reference = load_model('fg_test_resnet', tmp_path / 'resnet.pth', options=RESNET).model
        freeze_(reference, torch.cat(batches))
        export_file(resnet, 'frozen', tmp_path / 'plain.safetensors', batches=batches)
        plain = timm.create_model('test_resnet', num_classes=10, checkpoint_path=str(tmp_path / 'plain.safetensors'))
        for name, value in reference.state_dict().items():
            torch.testing.assert_close(plain.state_dict()[name], value, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        ('config', 'options', 'mode'), [(DIGITS, {}, 'L'), (UNET, SMALL_UNET, 'RGB')], ids=['digits', 'unet']
    )
    def test_the_baseline_config_loads_it(self, tmp_path, config, options, mode):
        loaded = load_model(config, save_config_model(tmp_path / 'fg.pth', config, options), options=options)
        one, _ = input_batches(loaded, save_images(tmp_path / 'images', 1, mode=mode))
        inputs = agreement.example_inputs(loaded, 3)
        with torch.no_grad(), loaded.conditioned_on(one[0]):
            expected = loaded.outputs(inputs)[0]
        export_file(loaded, 'frozen', tmp_path / 'plain.pth', batches=one)
        cfg = read_config(config.with_name(f'{config.stem}_baseline.py'))
        if options:
            cfg.merge_from_dict({'model.backbone.n': 4, 'model.head.in_channels': 4})
        plain = MODELS.build(cfg.model).eval()
        plain.load_state_dict(torch.load(tmp_path / 'plain.pth', weights_only=True)['state_dict'])
        with torch.no_grad():
            torch.testing.assert_close(plain(inputs), expected, rtol=1e-4, atol=1e-5)

    def test_a_backbone_that_generates_without_the_wrapper_is_refused(self, tmp_path):
        config = tmp_path / 'converted_backbone.py'
        base = DIGITS.with_name('demo_digits_baseline.py')
        config.write_text(f"_base_ = '{base}'\nmodel = dict(backbone=dict(type='ConvertedMNISTNet'))")
        with MODELS.switch_scope_and_registry('mmengine') as registry:
            registry.register_module(name='ConvertedMNISTNet', module=converted_mnist_net, force=True)
        loaded = load_model(config, save_config_model(tmp_path / 'fg.pth', config))
        out = tmp_path / 'plain.pth'
        # Before any image is run, which these are not.
        with pytest.raises(ValueError, match=r"should have no generated filters, but has 'backbone\.conv1'"):
            export_file(loaded, 'frozen', out, batches=['no image'])
        assert not out.exists()

    def test_layers_of_a_conv_cfg_are_ordinary_convolutions(self, tmp_path):
        config = tmp_path / 'conv_cfg.py'
        config.write_text(f"""
_base_ = '{DIGITS}'
layers = dict(type='ConvModuleNet', conv_cfg=dict(type='FilterRepoConv', code_dim=10, level=1))
model = dict(backbone=dict(backbone=dict(_delete_=True, **layers), convert=None), head=dict(in_channels=294))
""")
        with MODELS.switch_scope_and_registry('mmengine') as registry:
            registry.register_module(module=ConvModuleNet, force=True)
        loaded = load_model(config, save_config_model(tmp_path / 'fg.pth', config))
        one, _ = input_batches(loaded, save_images(tmp_path / 'images', 1))
        inputs = agreement.example_inputs(loaded, 2)
        with torch.no_grad(), loaded.conditioned_on(one[0]):
            expected = loaded.outputs(inputs)[0]
        export_file(loaded, 'frozen', tmp_path / 'plain.pth', batches=one)
        cfg = read_config(config)
        cfg.model.backbone = dict(type='ConvModuleNet')
        plain = MODELS.build(cfg.model).eval()
        plain.load_state_dict(torch.load(tmp_path / 'plain.pth', weights_only=True)['state_dict'])
        with torch.no_grad():
            torch.testing.assert_close(plain(inputs), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize('name', ['plain.pth', 'plain.safetensors'])
    def test_keeps_the_names_of_the_classes(self, digits, tmp_path, name):
        digits.classes = tuple('abcdefghij')
        export_file(digits, 'frozen', tmp_path / name, batches=[agreement.example_inputs(digits, 1)])
        baseline = DIGITS.with_name('demo_digits_baseline.py')
        assert load_model(baseline, tmp_path / name).classes == tuple('abcdefghij')

    @pytest.mark.parametrize(
        ('name', 'report'),
        [('segmentor', r'same class .* for \d+\.\d% of pixels'), ('features', r'by \d+\.\d% of their size')],
    )
    def test_of_other_outputs(self, request, tmp_path, name, report):
        loaded = request.getfixturevalue(name)
        one, _ = input_batches(loaded, save_images(tmp_path / 'images', 1, (64, 64), 'RGB'))
        inputs = agreement.example_inputs(loaded, 3)
        with torch.no_grad(), loaded.conditioned_on(one[0]):
            expected = loaded.outputs(inputs)
        assert re.search(report, export_file(loaded, 'frozen', tmp_path / 'plain.pth', batches=one))
        weights = torch.load(tmp_path / 'plain.pth', weights_only=True)['state_dict']
        cfg = read_config(SEGMENTOR if name == 'segmentor' else FEATURES)
        cfg.model.backbone = cfg.model.backbone.backbone
        plain = MODELS.build(cfg.model).eval()
        plain.load_state_dict(weights)
        with torch.no_grad():
            for out, value in zip(output_tensors(plain(inputs)), expected, strict=True):
                torch.testing.assert_close(out, value, rtol=1e-4, atol=1e-5)

    def test_needs_generated_filters(self, tmp_path):
        checkpoint = save_timm_model(tmp_path / 'plain.pth', 'test_resnet', num_classes=10)
        loaded = load_model('test_resnet', checkpoint, options=dict(num_classes=10))
        with pytest.raises(ValueError, match='should generate filters to be frozen, but test_resnet does not'):
            export_file(loaded, 'frozen', tmp_path / 'out.pth', batches=[agreement.example_inputs(loaded, 1)])


class TestBadInput:
    def test_an_existing_file_is_kept(self, digits, tmp_path):
        out = tmp_path / 'out.safetensors'
        out.write_text('mine')
        with pytest.raises(FileExistsError, match=r'out.safetensors exists: give another --out, or --overwrite'):
            export_file(digits, 'safetensors', out)
        assert out.read_text() == 'mine'
        export_file(digits, 'safetensors', out, overwrite=True)
        assert load_model(DIGITS, out).task == 'classification'

    def test_a_folder_and_an_unknown_format(self, digits, tmp_path):
        with pytest.raises(IsADirectoryError, match='is a folder'):
            export_file(digits, 'safetensors', tmp_path, overwrite=True)
        with pytest.raises(ValueError, match=r"one of \('onnx', .*\), but got 'onxx'"):
            export_file(digits, 'onxx', tmp_path / 'out')

    @pytest.mark.parametrize(
        ('format_name', 'name', 'suffixes'),
        [
            ('safetensors', 'deploy.pth', '.safetensors'),
            ('onnx', 'deploy', '.onnx'),
            ('exported_program', 'deploy.onnx', '.pt2'),
            ('frozen', 'deploy.onnx', '.pth or .pt or .safetensors'),
        ],
    )
    def test_a_name_that_belongs_to_another_format(self, digits, tmp_path, format_name, name, suffixes):
        with pytest.raises(
            ValueError, match=rf'out of format {format_name} should end in {suffixes}, but got .*{name}'
        ):
            export_file(digits, format_name, tmp_path / name)

    def test_every_format_has_a_name_that_fits(self, tmp_path):
        names = {name: default_path(tmp_path / 'epoch_15.pth', name).name for name in FORMATS}
        assert names == {
            'onnx': 'epoch_15.onnx',
            'exported_program': 'epoch_15.pt2',
            'safetensors': 'epoch_15.safetensors',
            'frozen': 'epoch_15_frozen.pth',
        }
        for format_name, name in names.items():
            check_output(format_name, tmp_path / name, overwrite=False)

    def test_missing_packages_name_their_extra(self, digits, tmp_path, monkeypatch):
        monkeypatch.setattr('fg_plugin.optional_packages.find_spec', lambda name: None if 'onnx' in name else True)
        with pytest.raises(ModuleNotFoundError, match=r"onnx, onnxscript, onnxruntime, .* 'fg-plugin\[export\]'"):
            export_file(digits, 'onnx', tmp_path / 'out.onnx')
