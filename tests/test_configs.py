"""Every config parses, builds and runs one batch; a baseline and its generated-filter twin differ in one dict."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, VISUALIZERS

import fg_plugin.registration  # noqa: F401

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVES = sorted(path.name for path in CONFIGS.glob('*.py'))
SLOW = {'cifar10', 'vgg11', 'unet43', 'unet64', 'unet72', 'unet_mtfl'}
TWINS = {
    'demo_digits.py': 'demo_digits_baseline.py',
    'demo_unet_faces.py': 'demo_unet_faces_baseline.py',
    'fg_cifar10.py': 'cifar10_baseline.py',
    'fg_cifar10_augmented.py': 'cifar10_baseline_augmented.py',
    'fg_mnist_nenc10_s5.py': 'mnist_baseline.py',
    'fg_mnist_nenc20_s10.py': 'mnist_baseline.py',
    'fg_mnist_nenc20_s2.py': 'mnist_baseline.py',
    'fg_mnist_nenc20_s5.py': 'mnist_baseline.py',
    'fg_mnist_nenc5_s5.py': 'mnist_baseline.py',
    'fg_unet64_mtfl.py': 'unet64_mtfl.py',
    'fg_unet64_mtfl_align.py': 'unet64_mtfl_align.py',
    'fg_unet_mtfl.py': 'unet_mtfl.py',
    'fg_unet_mtfl_align.py': 'unet_mtfl_align.py',
    'fg_unet_mtfl_light.py': 'unet_mtfl.py',
    'fg_unet_mtfl_lowrank.py': 'unet_mtfl.py',
    'fg_unet_mtfl_no_reconstruction.py': 'unet_mtfl.py',
    'fg_unet_mtfl_quarter.py': 'unet_mtfl.py',
    'fg_unet_mtfl_residual.py': 'unet_mtfl.py',
}


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / name, lazy_import=False)


def marked(names: list[str]) -> list:
    return [pytest.param(name, marks=pytest.mark.slow) if any(s in name for s in SLOW) else name for name in names]


def test_every_leaf_has_its_twin():
    generated = {name for name in LEAVES if load(name).model.backbone.type == 'FGBackboneWrapper'}
    assert generated == set(TWINS)


@pytest.mark.parametrize(('generated', 'baseline'), TWINS.items())
def test_twins_differ_in_the_backbone_only(generated, baseline):
    first, second = load(generated).to_dict(), load(baseline).to_dict()
    wrapper, backbone = first['model'].pop('backbone'), second['model'].pop('backbone')
    assert first == second
    assert wrapper['backbone'] == backbone


@pytest.mark.parametrize('name', LEAVES)
def test_every_component_is_registered(name):
    cfg = load(name)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.type in DATASETS
    hooks = [*cfg.default_hooks.values(), *cfg.custom_hooks]
    assert all(hook.type in HOOKS for hook in hooks)
    for hook in hooks:
        HOOKS.build(hook)
    assert METRICS.get(cfg.val_evaluator.type) is not None
    assert VISUALIZERS.get(cfg.visualizer.type) is not None


@pytest.mark.parametrize('name', marked(LEAVES))
def test_model_runs_one_batch(name):
    torch.manual_seed(0)
    cfg = load(name)
    model = MODELS.build(copy.deepcopy(cfg.model))
    model.init_weights()
    preprocessor = cfg.model.data_preprocessor
    inputs = torch.randint(0, 256, (2, preprocessor.channels, *2 * [preprocessor.image_size]), dtype=torch.uint8)
    if cfg.model.type == 'ImageClassifier':
        targets = {'labels': torch.tensor([1, 2])}
    else:
        targets = {'landmarks': (preprocessor.image_size - 1) * torch.rand(2, 5, 2)}
    batch = {'inputs': inputs, 'data_samples': {**targets, 'index': torch.arange(2)}}

    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert ('loss_rec' in losses) == (getattr(cfg.model.backbone, 'reconstruction_weight', 0) > 0)
    assert all(parameter.grad is not None for parameter in model.parameters())

    metric = METRICS.build(cfg.val_evaluator)
    with torch.no_grad():
        metric.process(batch, model.eval().val_step(batch))
    assert ('accuracy/top1' if cfg.model.type == 'ImageClassifier' else 'NME/AVG') in metric.evaluate(2)


@pytest.mark.parametrize('name', LEAVES)
def test_no_checkpoint_is_chosen_by_the_test_set(name):
    cfg = load(name)
    assert cfg.val_dataloader.dataset == cfg.test_dataloader.dataset
    assert 'save_best' not in cfg.default_hooks.checkpoint


@pytest.mark.parametrize('name', [name for name in LEAVES if name in TWINS.values()])
def test_schedules_follow_max_epochs(name):
    assert all('end' not in scheduler and 'T_max' not in scheduler for scheduler in load(name).param_scheduler)


@pytest.mark.parametrize(('filters', 'repository'), [(20, 2), (20, 5), (20, 10), (10, 5), (5, 5)])
def test_mnist_study_sets_encoder_and_repository(filters, repository):
    backbone = load(f'fg_mnist_nenc{filters}_s{repository}.py').model.backbone
    assert [channels for channels, _ in backbone.autoencoder.encoder] == [filters, filters]
    assert backbone.convert.num_base_filters == repository
    model = MODELS.build(backbone)
    assert [model.backbone.conv1.weight.shape[0], model.backbone.conv2.weight.shape[0]] == 2 * [repository]


def test_paper_sizes_of_the_landmark_generator():
    """Tables 9 and 10-14: sizes of the encoder's maps and the levels that drive the UNet's convolutions."""
    cfg = load('fg_unet_mtfl.py').model.backbone
    wrapper = MODELS.build(cfg)
    sizes = wrapper.generator.autoencoder.feature_sizes(64)
    assert sizes == (64, 32, 16, 8, 4)
    assert wrapper.generator.neck.code_dims == (64, 64, 96, 96, 128)
    assert [record.level for record in wrapper.records] == [0, 1, 2, 3, 4, 3, 2, 1, 0]
