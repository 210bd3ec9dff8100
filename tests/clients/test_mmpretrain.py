"""Convolutional backbones of mmpretrain, or of its maintained fork, inside its ImageClassifier."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clients.wrapping import (
    IMAGE_SIZE,
    assert_same_features,
    assert_trains,
    converted,
    normalisations,
    takes,
    wrap,
)
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from PIL import Image

import fg_plugin.registration  # noqa: F401
from fg_plugin.export import export_file
from fg_plugin.inference import list_images, load_model
from fg_plugin.inference.batches import input_batches
from fg_plugin.inference.config_model import build_config_model
from fg_plugin.launch import read_config

REASON = 'needs mmpretrain or onedl-mmpretrain: python tests/clients/run.py'
pytest.importorskip('mmpretrain.models', reason=REASON)
MODELS = pytest.importorskip('mmpretrain.registry').MODELS
DataSample = pytest.importorskip('mmpretrain.structures').DataSample

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HRNET_STAGES = (
    ('BOTTLENECK', (1,), (16,)),
    ('BASIC', (1, 1), (8, 16)),
    ('BASIC', (1, 1, 1), (8, 16, 32)),
    ('BASIC', (1, 1, 1, 1), (8, 16, 32, 64)),
)
# Small ones where a backbone's sizes are free.
BACKBONES = {
    'ResNet': dict(depth=18),
    'ResNeXt': dict(depth=50, groups=8, width_per_group=4),
    'MobileNetV2': dict(widen_factor=0.5),
    'MobileNetV3': dict(arch='small_050'),
    'EfficientNet': dict(arch='b0'),
    'ConvNeXt': dict(arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32])),
    'HRNet': dict(
        extra={
            f'stage{number}': dict(
                num_modules=1, num_branches=len(blocks), block=block, num_blocks=blocks, num_channels=channels
            )
            for number, (block, blocks, channels) in enumerate(HRNET_STAGES, 1)
        }
    ),
    'RepVGG': dict(arch='A0'),
    'VGG': dict(depth=11, norm_cfg=dict(type='BN')),
    'ShuffleNetV2': dict(widen_factor=0.5),
    'CSPDarkNet': dict(depth=53),
    'DenseNet': dict(arch=dict(growth_rate=8, depths=[1, 1, 2, 1], init_channels=16)),
    'TIMMBackbone': dict(model_name='test_resnet'),
}
each_backbone = pytest.mark.parametrize('name', BACKBONES)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def backbone_config(name: str, **options) -> dict:
    return dict(type=name, **BACKBONES[name], **options)


def build_classifier(backbone, seed: int = 0, **options):
    torch.manual_seed(seed)
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            data_preprocessor=dict(
                type='ClsDataPreprocessor', num_classes=3, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False
            ),
            backbone=backbone,
            head=dict(type='LinearClsHead', in_channels=1, num_classes=3),
            neck=None,
            **options,
        )
    )
    model.eval()
    with torch.no_grad():
        *others, last = model.backbone(torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE))
    channels = last.shape[1]
    necks = [dict(type='GlobalAveragePooling')] if last.ndim == 4 else []
    if others:
        necks.insert(0, dict(type='HRFuseScales', in_channels=[*(map.shape[1] for map in others), channels]))
        channels = 2048
    if necks:
        model.neck = MODELS.build(necks)
    model.head.fc = torch.nn.Linear(channels, 3)
    model.train()
    return model


def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (2, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8, generator=generator)
    return dict(inputs=list(inputs), data_samples=[DataSample().set_gt_label(label) for label in (1, 2)])


@each_backbone
def test_build(name, record_property):
    model = build_classifier(wrap(backbone_config(name)))
    record_property('converted', converted(model.backbone))
    record_property('reasons', '; '.join({record.reason for record in model.backbone.records if record.reason}))


@each_backbone
def test_preserve(name, record_property):
    plain = MODELS.build(backbone_config(name))
    wrapper = MODELS.build(wrap(copy.deepcopy(plain)))
    record_property('difference', assert_same_features(wrapper, plain))


@each_backbone
def test_train_step(name):
    model = build_classifier(wrap(backbone_config(name)))
    before = copy.deepcopy(model.state_dict())
    assert_trains(model, batch())
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert any('coefficient_head' in key for key in changed)
    assert any(key.startswith('head.') for key in changed)


@each_backbone
def test_val_step(name):
    model = build_classifier(wrap(backbone_config(name))).eval()
    with torch.no_grad():
        samples = model.val_step(batch())
    assert [sample.pred_score.shape for sample in samples] == 2 * [(3,)]
    assert all(torch.isfinite(sample.pred_score).all() for sample in samples)


@each_backbone
def test_init_weights(name):
    # What init_weights does not reach keeps the weights that it was built with: the same, by the same seed.
    plain = build_classifier(backbone_config(name), seed=1)
    wrapped = build_classifier(wrap(backbone_config(name)), seed=1)
    for model in (plain, wrapped):
        torch.manual_seed(3)
        model.init_weights()
    assert_same_features(wrapped.backbone, plain.backbone)


@each_backbone
def test_keeps_given_weights(name):
    torch.manual_seed(1)
    plain = MODELS.build(backbone_config(name))
    wrapped = build_classifier(wrap(copy.deepcopy(plain)))
    wrapped.init_cfg = [dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.02)]
    wrapped.init_weights()
    assert_same_features(wrapped.backbone, plain)


@each_backbone
def test_frozen_stages(name):
    if not takes(MODELS.get(name), 'frozen_stages'):
        pytest.skip('the backbone has no frozen_stages')
    plain = build_classifier(backbone_config(name, frozen_stages=1))
    model = build_classifier(wrap(backbone_config(name, frozen_stages=1)))
    frozen = {key for key, parameter in model.backbone.backbone.named_parameters() if not parameter.requires_grad}
    expected = {key for key, parameter in plain.backbone.named_parameters() if not parameter.requires_grad}
    assert expected
    assert {key for key in frozen if 'coefficient_head' not in key} == expected
    heads = {key.partition('.coefficient_head')[0] for key in frozen if 'coefficient_head' in key}
    assert heads == {
        record.name
        for record in model.backbone.records
        if record.level is not None and f'{record.name}.weight' in expected
    }
    assert_trains(model, batch())


@each_backbone
def test_norm_eval(name):
    if not takes(MODELS.get(name), 'norm_eval'):
        pytest.skip('the backbone has no norm_eval')
    model = build_classifier(wrap(backbone_config(name, norm_eval=True)))
    model.train()
    layers = normalisations(model.backbone.backbone)
    if not layers:
        pytest.skip('the backbone has no batch normalisation')
    assert not any(layer.training for layer in layers)
    assert model.backbone.training
    assert model.backbone.generator.training


@each_backbone
def test_load_from(name, tmp_path):
    plain = build_classifier(backbone_config(name), seed=1)
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'plain.pth')
    wrapped = build_classifier(wrap(backbone_config(name)), seed=2)
    load_checkpoint(wrapped, str(tmp_path / 'plain.pth'), strict=True)
    assert_same_features(wrapped.backbone, plain.backbone)
    assert torch.equal(wrapped.head.fc.weight, plain.head.fc.weight)


@each_backbone
def test_pretrained_init_cfg(name, tmp_path):
    if not takes(MODELS.get(name), 'init_cfg'):
        pytest.skip('the backbone has no init_cfg')
    plain = build_classifier(backbone_config(name), seed=1)
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'plain.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'), prefix='backbone.')
    wrapped = build_classifier(wrap(backbone_config(name, init_cfg=init_cfg)), seed=2)
    wrapped.init_weights()
    assert_same_features(wrapped.backbone, plain.backbone)


@each_backbone
def test_checkpointing(name):
    if not takes(MODELS.get(name), 'with_cp'):
        pytest.skip('the backbone has no with_cp')

    def gradients(with_cp):
        model = build_classifier(wrap(backbone_config(name, with_cp=with_cp))).double()
        # Mixed heads: right after conversion the encoder gets no gradient.
        for key, parameter in model.named_parameters():
            if key.endswith('coefficient_head.scale.weight'):
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        data = model.data_preprocessor(batch(), True)
        model(data['inputs'].double(), data['data_samples'], mode='loss')['loss'].backward()
        return {key: parameter.grad for key, parameter in model.named_parameters()}

    expected, got = gradients(False), gradients(True)
    for key, gradient in expected.items():
        torch.testing.assert_close(got[key], gradient, rtol=1e-9, atol=1e-12)


def test_conv_cfg():
    conv_cfg = dict(type='FilterRepoConv', code_dim=16, level=1, head='lowrank', rank=4)
    model = build_classifier(wrap(backbone_config('ResNet', conv_cfg=conv_cfg), convert=None))
    assert converted(model.backbone) == '20/20'
    model.init_weights()
    assert_trains(model, batch())


def test_layer_depth():
    backbone = dict(type='ResNet', depth=50)
    plain, wrapped = build_classifier(backbone), build_classifier(wrap(backbone))
    for key, _ in plain.backbone.named_parameters():
        assert wrapped.get_layer_depth(f'backbone.backbone.{key}') == plain.get_layer_depth(f'backbone.{key}')


def test_switch_to_deploy_is_refused():
    wrapper = MODELS.build(wrap(backbone_config('RepVGG')))
    with pytest.raises(RuntimeError, match='cannot switch_to_deploy its convolutions'):
        wrapper.backbone.switch_to_deploy()


def make_image_folder(root: Path) -> None:
    for number in range(8):
        folder = root / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 32), (30 * number, 100, 200 - 20 * number)).save(folder / f'{number}.png')


def test_config_trains_and_loads(tmp_path):
    """The ready config with a few images instead of CIFAR-10: train, validate, resume the weights of a plain model."""
    make_image_folder(tmp_path / 'images')
    cfg = Config.fromfile(ROOT / 'configs' / 'mmpretrain' / 'fg_resnet18_cifar10.py', lazy_import=False)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.train_cfg.max_epochs = 1
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        pipeline = [dict(type='LoadImageFromFile'), *loader.dataset.pipeline]
        loader.dataset = dict(type='CustomDataset', data_root=str(tmp_path / 'images'), pipeline=pipeline)
    plain_cfg = copy.deepcopy(cfg)
    plain_cfg.model.backbone = cfg.model.backbone.backbone
    plain_cfg.work_dir = str(tmp_path / 'plain')
    plain = Runner.from_cfg(plain_cfg)
    plain.model.init_weights()
    torch.save(dict(state_dict=plain.model.state_dict(), meta={}), tmp_path / 'plain.pth')

    cfg.load_from = str(tmp_path / 'plain.pth')
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    assert_same_features(runner.model.backbone, plain.model.backbone)
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert {'train/loss_rec', 'val/accuracy/top1', 'val/swap/accuracy_top1'} <= scalars.keys()
    assert Path(runner.work_dir, 'epoch_1.pth').is_file()


def test_frozen_checkpoint_loads_without_fg_plugin(tmp_path):
    make_image_folder(tmp_path / 'images')
    config = ROOT / 'configs' / 'mmpretrain' / 'fg_resnet18_cifar10.py'
    torch.manual_seed(0)
    model = build_config_model(read_config(config))
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'fg.pth')
    loaded = load_model(config, tmp_path / 'fg.pth', input_size=(32, 32))
    batches, _ = input_batches(loaded, list_images([tmp_path / 'images']))
    export_file(loaded, 'frozen', tmp_path / 'plain.pth', batches=batches)
    inputs = loaded.normalise(batches[0])
    torch.save((inputs, loaded.model(inputs).detach()), tmp_path / 'expected.pt')
    plain = read_config(config).model.to_dict()
    plain['backbone'] = plain['backbone']['backbone']
    code = f"""
import sys
sys.modules['fg_plugin'] = None
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
init_default_scope('mmpretrain')
model = MODELS.build({plain!r}).eval()
model.load_state_dict(torch.load(r'{tmp_path / 'plain.pth'}', weights_only=True)['state_dict'])
inputs, expected = torch.load(r'{tmp_path / 'expected.pt'}')
assert torch.equal(model(inputs), expected)
"""
    subprocess.run([sys.executable, '-c', code], check=True, timeout=200)
