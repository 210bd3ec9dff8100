"""Checkpoints whose filters differ between images, as after some training, and images to run them on."""

from pathlib import Path

import numpy as np
import timm
import torch
from mmengine.registry import MODELS
from PIL import Image
from torch import nn

import fg_plugin.registration  # noqa: F401
from fg_plugin.launch import read_config
from fg_plugin.layers import FilterRepoConv

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / 'configs'
DIGITS = CONFIGS / 'demo_digits.py'
UNET = CONFIGS / 'demo_unet_faces.py'
SEGMENTOR = TESTS / 'toy' / 'toy_segmentor_config.py'
FEATURES = TESTS / 'toy' / 'toy_features_config.py'
SMALL_UNET = {'model.backbone.backbone.n': 4, 'model.head.in_channels': 4}


def save_config_model(path: Path, config: Path = DIGITS, options: dict | None = None, **meta) -> Path:
    """Save the model of a config as MMEngine's Runner does."""
    torch.manual_seed(0)
    model = shaken(MODELS.build(read_config(config, options).model))
    if config == SEGMENTOR:
        balance_(model)
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return path


def save_timm_model(path: Path, name: str = 'fg_test_resnet', **options) -> Path:
    """Save the state dict of a network of timm."""
    torch.manual_seed(0)
    torch.save(shaken(timm.create_model(name, **options)).state_dict(), path)
    return path


def shaken(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, FilterRepoConv):
            for parameter in module.coefficient_head.parameters():
                with torch.no_grad():
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


@torch.no_grad()
def balance_(segmentor: nn.Module) -> None:
    """Let every class be predicted for some pixels of random images."""
    logits = segmentor.eval()(torch.rand(8, 3, 64, 64))
    segmentor.decode_head.bias -= logits.mean((0, 2, 3))


def save_images(folder: Path, count: int, size: tuple[int, int] = (28, 28), mode: str = 'L') -> list[Path]:
    """Save images ``000.png`` and so on of random coarse patches, of ``(width, height)``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    paths = []
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 6) if mode == 'L' else (6, 6, 3), dtype=np.uint8)
        paths.append(folder / f'{index:03d}.png')
        Image.fromarray(coarse).resize(size).save(paths[-1])
    return paths
