"""Exported files of timm's names with a tag."""

import pytest
import timm
import torch
from trained import save_timm_model

from fg_plugin.export import export_file
from fg_plugin.inference import load_model

# Its tags differ in the number of classes.
TAGGED = 'fg_vit_tiny_patch16_224.augreg_in21k'
OPTIONS = dict(embed_dim=16, depth=1, num_heads=1)


@pytest.fixture
def exported(tmp_path):
    """A tagged network as a file of ``fg_plugin.export``."""
    checkpoint = save_timm_model(tmp_path / 'tagged.pth', TAGGED, **OPTIONS)
    loaded, path = load_model(TAGGED, checkpoint, options=OPTIONS), tmp_path / 'tagged.safetensors'
    export_file(loaded, 'safetensors', path)
    return path


@pytest.mark.parametrize('name', [TAGGED, TAGGED.split('.')[0]])
def test_a_name_without_the_tag_gives_the_network_of_the_file(exported, name):
    loaded = load_model(name, exported)
    assert loaded.source == TAGGED
    with torch.no_grad():
        assert loaded.model(torch.zeros(1, 3, 224, 224)).shape == (1, 21843)
    assert loaded.model.pretrained_cfg['tag'] == 'augreg_in21k'


def test_another_tag_is_taken_at_its_word(exported):
    other = next(tag for tag in timm.list_models(TAGGED.split('.')[0], include_tags=True) if tag != TAGGED)
    loaded = load_model(other, exported, options=dict(num_classes=21843))
    assert loaded.source == other


@pytest.mark.parametrize('name', ['fg_vit_tiny_patch16_384', 'vit_tiny_patch16_224'])
def test_another_architecture_is_refused(exported, name):
    with pytest.raises(ValueError, match=rf'belong to {name}, but .* was exported from {TAGGED}'):
        load_model(name, exported)
