import subprocess
import sys
from pathlib import Path

import pytest
from mmcv.cnn import build_conv_layer
from mmengine.registry import DATASETS, FUNCTIONS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS, VISUALIZERS

from fg_plugin.layers import FilterRepoConv

ROOT = Path(__file__).parents[1]


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ('registry', 'names'),
    [
        (MODELS, 'FGBackboneWrapper FilterRepoConv Autoencoder AEFeatureNeck ImageClassifier LandmarkDetector'),
        (MODELS, 'MNISTNet CIFARNet VGG11 UNet LinearClsHead HeatmapHead BatchDataPreprocessor'),
        (DATASETS, 'MNISTInMemory CIFAR10InMemory MTFLLandmarks DigitsInMemory RenderedFaces'),
        (TRANSFORMS, 'BatchRandomFlip BatchRandomCrop'),
        (FUNCTIONS, 'batch_collate'),
        (METRICS, 'Accuracy NormalizedMeanError'),
        (
            HOOKS,
            'AtomicCheckpointHook EpochSeedHook NonFiniteLossHook ReconstructionLossHook StrictLoadHook ThroughputHook',
        ),
        (OPTIM_WRAPPERS, 'CPUAmpOptimWrapper'),
        (VISUALIZERS, 'FGVisualizer'),
    ],
)
def test_every_component_is_in_a_root_registry(registry, names):
    assert registry.scope == 'mmengine'
    for name in names.split():
        assert name in registry.module_dict, name


def test_the_layer_serves_as_conv_cfg_of_mmcv():
    conv = build_conv_layer(dict(type='FilterRepoConv', code_dim=4), 3, 8, 3, padding=1)
    assert isinstance(conv, FilterRepoConv)
    assert conv.weight.shape[1:] == (3, 3, 3)


@pytest.mark.parametrize('package', ['mmengine', 'mmcv'])
def test_missing_packages_name_both_extras(package):
    done = run_python(f"import sys; sys.modules['{package}'] = None; import fg_plugin.registration")
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert f'{package} is not installed' in message
    assert "pip install 'fg-plugin[mm]'" in message
    assert "pip install 'fg-plugin[onedl]'" in message
    assert 'exactly one' in message


def test_the_package_itself_needs_no_mmengine():
    done = run_python("import sys; sys.modules['mmengine'] = sys.modules['mmcv'] = None; import fg_plugin")
    assert done.returncode == 0, done.stderr


def test_activation_checkpointing_of_mmengine_works_whatever_is_imported_first():
    ended = run_python("""
from mmengine.runner import Runner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
import torch
from torch import nn
import fg_plugin
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).double()
fg_plugin.convert_(net, init='orthogonal', mean=(0,) * 3, std=(1,) * 3, input_size=(3, 16, 16))
images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
net(images).square().sum().backward()
expected = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
net.zero_grad()
turn_on_activation_checkpointing(net, ['1'])
net(images).square().sum().backward()
for name, parameter in net.named_parameters():
    torch.testing.assert_close(parameter.grad, expected[name])
""")
    assert ended.returncode == 0, ended.stderr
