"""Backbones of mmsegmentation's maintained fork inside its EncoderDecoder."""

import copy
from pathlib import Path

import numpy as np
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
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from mmengine.structures import PixelData
from PIL import Image

import fg_plugin.registration  # noqa: F401
from fg_plugin.analysis.analyse import analyse
from fg_plugin.analysis.samples import samples_from_files
from fg_plugin.export import export_file
from fg_plugin.inference import list_images, load_model, predict_files, read_image

pytest.importorskip('mmseg.models', reason='needs onedl-mmsegmentation: python tests/clients/run.py onedl-mmseg')
MODELS = pytest.importorskip('mmseg.registry').MODELS
SegDataSample = pytest.importorskip('mmseg.structures').SegDataSample

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HRNET_STAGES = (
    ('BOTTLENECK', (1,), (16,)),
    ('BASIC', (1, 1), (8, 16)),
    ('BASIC', (1, 1, 1), (8, 16, 32)),
    ('BASIC', (1, 1, 1, 1), (8, 16, 32, 64)),
)
BN = dict(type='BN', requires_grad=True)
BACKBONES = {
    'ResNetV1c': dict(depth=18, norm_cfg=BN, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True),
    'ResNet': dict(depth=18, norm_cfg=BN),
    'ResNeXt': dict(depth=50, groups=8, base_width=4, norm_cfg=BN),
    'MobileNetV2': dict(widen_factor=0.5, norm_cfg=BN, out_indices=(1, 2, 4, 6)),
    'MobileNetV3': dict(arch='small', norm_cfg=BN),
    'HRNet': dict(
        norm_cfg=BN,
        extra={
            f'stage{number}': dict(
                num_modules=1, num_branches=len(blocks), block=block, num_blocks=blocks, num_channels=channels
            )
            for number, (block, blocks, channels) in enumerate(HRNET_STAGES, 1)
        },
    ),
    'UNet': dict(base_channels=8, norm_cfg=BN),
}
each_backbone = pytest.mark.parametrize('name', BACKBONES)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def backbone_config(name: str, **options) -> dict:
    return dict(type=name, **BACKBONES[name], **options)


def build_segmentor(backbone, seed: int = 0):
    torch.manual_seed(seed)
    inner = backbone['backbone'] if backbone['type'] == 'FGBackboneWrapper' else backbone
    host = MODELS.build(copy.deepcopy(inner))
    host.eval()
    with torch.no_grad():
        channels = [feature.shape[1] for feature in host(torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE))]
    torch.manual_seed(seed)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, size=(IMAGE_SIZE, IMAGE_SIZE)
            ),
            backbone=backbone,
            decode_head=dict(
                type='FCNHead',
                in_channels=channels,
                in_index=list(range(len(channels))),
                input_transform='resize_concat',
                channels=8,
                num_convs=1,
                num_classes=3,
                norm_cfg=BN,
                align_corners=False,
            ),
            train_cfg=dict(),
            test_cfg=ConfigDict(mode='whole'),
        )
    )
    model.train()
    return model


def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (2, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8, generator=generator)
    samples = []
    for _ in range(2):
        labels = torch.randint(0, 3, (1, IMAGE_SIZE, IMAGE_SIZE), generator=generator)
        size = (IMAGE_SIZE, IMAGE_SIZE)
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return dict(inputs=list(inputs), data_samples=samples)


@each_backbone
def test_build(name, record_property):
    model = build_segmentor(wrap(backbone_config(name)))
    record_property('converted', converted(model.backbone))
    record_property('reasons', '; '.join({record.reason for record in model.backbone.records if record.reason}))


@each_backbone
def test_preserve(name, record_property):
    plain = MODELS.build(backbone_config(name))
    wrapper = MODELS.build(wrap(copy.deepcopy(plain)))
    record_property('difference', assert_same_features(wrapper, plain))


@each_backbone
def test_train_step(name):
    model = build_segmentor(wrap(backbone_config(name)))
    before = copy.deepcopy(model.state_dict())
    assert_trains(model, batch())
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert any('coefficient_head' in key for key in changed)
    assert any(key.startswith('decode_head.') for key in changed)


@each_backbone
def test_val_step(name):
    model = build_segmentor(wrap(backbone_config(name))).eval()
    with torch.no_grad():
        samples = model.val_step(batch())
    assert [sample.pred_sem_seg.shape for sample in samples] == 2 * [(IMAGE_SIZE, IMAGE_SIZE)]
    assert all(torch.isfinite(sample.seg_logits.data).all() for sample in samples)


@each_backbone
def test_init_weights(name):
    # What init_weights does not reach keeps the weights that it was built with: the same, by the same seed.
    plain = build_segmentor(backbone_config(name), seed=1)
    wrapped = build_segmentor(wrap(backbone_config(name)), seed=1)
    for model in (plain, wrapped):
        torch.manual_seed(3)
        model.init_weights()
    assert_same_features(wrapped.backbone, plain.backbone)


@each_backbone
def test_keeps_given_weights(name):
    torch.manual_seed(1)
    plain = MODELS.build(backbone_config(name))
    wrapped = MODELS.build(wrap(copy.deepcopy(plain)))
    wrapped.init_cfg = [dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.02)]
    wrapped.init_weights()
    assert_same_features(wrapped, plain)


@each_backbone
def test_frozen_stages(name):
    if not takes(MODELS.get(name), 'frozen_stages'):
        pytest.skip('the backbone has no frozen_stages')
    plain = build_segmentor(backbone_config(name, frozen_stages=1))
    model = build_segmentor(wrap(backbone_config(name, frozen_stages=1)))
    frozen = {key for key, parameter in model.backbone.backbone.named_parameters() if not parameter.requires_grad}
    expected = {key for key, parameter in plain.backbone.named_parameters() if not parameter.requires_grad}
    assert expected
    assert {key for key in frozen if 'coefficient_head' not in key} == expected
    heads = {key.partition('.coefficient_head')[0] for key in frozen if 'coefficient_head' in key}
    assert heads == {record.name for record in model.backbone.records if f'{record.name}.weight' in expected}
    assert_trains(model, batch())


@each_backbone
def test_norm_eval(name):
    if not takes(MODELS.get(name), 'norm_eval'):
        pytest.skip('the backbone has no norm_eval')
    model = build_segmentor(wrap(backbone_config(name, norm_eval=True)))
    layers = normalisations(model.backbone.backbone)
    assert layers
    assert not any(layer.training for layer in layers)
    assert model.backbone.training
    assert model.backbone.generator.training


@each_backbone
def test_load_from(name, tmp_path):
    plain = build_segmentor(backbone_config(name), seed=1)
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'plain.pth')
    wrapped = build_segmentor(wrap(backbone_config(name)), seed=2)
    load_checkpoint(wrapped, str(tmp_path / 'plain.pth'), strict=True)
    assert_same_features(wrapped.backbone, plain.backbone)
    assert torch.equal(wrapped.decode_head.conv_seg.weight, plain.decode_head.conv_seg.weight)


@each_backbone
def test_pretrained_init_cfg(name, tmp_path):
    plain = build_segmentor(backbone_config(name), seed=1)
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'plain.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'), prefix='backbone.')
    wrapped = build_segmentor(wrap(backbone_config(name, init_cfg=init_cfg)), seed=2)
    wrapped.init_weights()
    assert_same_features(wrapped.backbone, plain.backbone)


def test_conv_cfg():
    conv_cfg = dict(type='FilterRepoConv', code_dim=16, level=1, head='lowrank', rank=4)
    backbone = backbone_config('UNet', conv_cfg=conv_cfg)
    torch.manual_seed(0)
    wrapper = MODELS.build(wrap(backbone, convert=None))
    # Its upsampling takes no conv_cfg.
    assert all('upsample' in record.name for record in wrapper.records if record.level is None)
    assert converted(wrapper) == '18/22'
    wrapper.init_weights()
    wrapper(torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE))[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in wrapper.parameters())


def make_drive(root: Path) -> None:
    """Two images each of the data set's files, with a random pattern as vessels."""
    random = np.random.default_rng(0)
    for split in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
        for number in range(2):
            pixels = random.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / 'images' / split / f'{number}.png')
            labels = (pixels[..., 0] > 127).astype(np.uint8)
            Image.fromarray(labels).save(root / 'annotations' / split / f'{number}_manual1.png')


def test_config_trains_and_loads(tmp_path):
    """The ready config with random images instead of DRIVE, from the weights of a plain model."""
    make_drive(tmp_path / 'DRIVE')
    cfg = Config.fromfile(ROOT / 'configs' / 'mmseg' / 'fg_fcn_unet_drive.py', lazy_import=False)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(tmp_path / 'DRIVE')
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step.scale = (96, 96)
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
    assert {'train/loss_rec', 'val/mDice'} <= scalars.keys()
    assert Path(runner.work_dir, 'iter_2.pth').is_file()


def test_the_tools_take_the_config(tmp_path):
    """analyze_filters, export and infer on the ready config with random weights and images."""
    config = ROOT / 'configs' / 'mmseg' / 'fg_fcn_unet_drive.py'
    checkpoint, images = tmp_path / 'model.pth', tmp_path / 'images'
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(config).model).state_dict(), meta={}), checkpoint)
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(random.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(images / f'{number}.png')

    loaded = load_model(config, checkpoint, classes=('background', 'vessel'), input_size=(64, 64))
    assert (loaded.task, loaded.input_size) == ('segmentation', (3, 64, 64))
    files = list_images([images])
    inputs = torch.stack([loaded.transform(read_image(file, 3)) for file in files])
    # The preprocessor is given BGR.
    data = dict(inputs=list(inputs.flip(1) * 255), data_samples=None)
    with torch.no_grad():
        expected = loaded.model(loaded.model.data_preprocessor(data)['inputs'], mode='tensor')
        torch.testing.assert_close(loaded.outputs(inputs)[0], expected, rtol=1e-4, atol=1e-4)
    results = list(predict_files(loaded, files))
    assert [result.prediction.labels.shape for result in results] == [(80, 90)] * 6
    analysis = analyse(loaded, samples_from_files(loaded, files, 6), tmp_path / 'analysis')
    assert 0 < analysis['swap']['agreement'] <= 1
    assert (tmp_path / 'analysis' / 'tsne.png').is_file()
    assert 'logits' in export_file(loaded, 'onnx', tmp_path / 'model.onnx')
    loaded = load_model(config, checkpoint, input_size=(64, 64))
    report = export_file(loaded, 'frozen', tmp_path / 'plain.pth', batches=[inputs])
    assert 'a plain EncoderDecoder loads it' in report
