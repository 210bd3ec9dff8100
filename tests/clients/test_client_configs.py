"""What can be said of the clients' configs where no client is installed."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS
from torch import nn

import fg_plugin.registration  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('mm*/*.py')), ids=lambda path: path.stem)
def test_the_part_of_fg_plugin_fits(path):
    cfg = Config.fromfile(path, lazy_import=False)
    for hook in (*cfg.default_hooks.values(), *cfg.custom_hooks):
        HOOKS.build(hook)
    assert 'ReconstructionLossHook' in [hook.type for hook in cfg.custom_hooks]
    backbone = {**cfg.model.backbone, 'backbone': nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))}
    wrapper = MODELS.build(backbone)
    # The pixels 0 and 255, as the client normalises them.
    preprocessor = cfg.model.data_preprocessor
    mean, std = (torch.tensor(preprocessor[key]).view(-1, 1, 1) for key in ('mean', 'std'))
    size = wrapper.generator.image_size
    pixels = 255 * torch.randint(0, 2, (2, 3, size, size)).float()
    assert wrapper((pixels - mean) / std).shape == (2, 4, size, size)
    assert wrapper.generator.take_reconstruction_loss() > 0
