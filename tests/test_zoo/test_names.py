"""The names that ``import fg_plugin`` adds to timm."""

import subprocess
import sys

import pytest
import timm
import torch
from test_zoo.smallest import SMALLEST
from timm.models import get_pretrained_cfg, is_model_pretrained, list_modules, split_model_name_tag
from torch import nn

import fg_plugin
from fg_plugin import UnknownArchitectureError
from fg_plugin.zoo import MODULES_WITHOUT_CONV, PREFIX, host_architecture, register_zoo

HOSTS = [name for name in timm.list_models() if not name.startswith(PREFIX)]


def test_every_architecture_has_a_name_but_those_of_two_modules():
    without = {name for module in MODULES_WITHOUT_CONV for name in timm.list_models(module=module)}
    assert len(without) < len(HOSTS) / 50
    assert set(timm.list_models('fg_*')) == {PREFIX + name for name in HOSTS if name not in without}
    assert timm.is_model('fg_resnet18')
    assert not timm.is_model('fg_naflexvit_base_patch16_gap')


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_names_are_those_of_the_architectures_with_a_convolution():
    smallest = {}
    for name in HOSTS:
        with torch.device('meta'):
            model = timm.create_model(name)
        convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
        assert timm.is_model(PREFIX + name) == convolutional, name
        size = sum(parameter.numel() for parameter in model.parameters())
        smallest[type(model)] = min(smallest.get(type(model), (size, name)), (size, name))
    assert sorted(name for _, name in smallest.values()) == list(SMALLEST)


def test_pretrained_tags_are_the_hosts():
    for pattern in ('resnet18*', 'convnext_tiny*', 'tf_efficientnet_b0*'):
        expected = [PREFIX + name for name in timm.list_pretrained(pattern)]
        assert timm.list_pretrained(PREFIX + pattern) == expected
        assert any('.' in name for name in expected)
    assert timm.list_models('fg_resnet18*', include_tags=True) == [
        PREFIX + name for name in timm.list_models('resnet18*', include_tags=True)
    ]
    assert is_model_pretrained('fg_resnet18')
    assert not is_model_pretrained('fg_starnet_s050')


@pytest.mark.parametrize('name', ['resnet18', 'resnet18.fb_swsl_ig1b_ft_in1k', 'mobilenetv3_small_050'])
def test_configurations_are_the_hosts(name):
    converted, host = get_pretrained_cfg(PREFIX + name), get_pretrained_cfg(name)
    assert host.hf_hub_id
    assert converted.to_dict() == {**host.to_dict(), 'architecture': converted.architecture}
    assert host.hf_hub_id == f'timm/{get_pretrained_cfg(name).architecture}.{host.tag}'
    assert timm.get_pretrained_cfg_value(PREFIX + name, 'mean') == host.mean


def test_all_tags_of_all_names():
    tagged = {split_model_name_tag(name) for name in timm.list_models('fg_*', include_tags=True)}
    hosts = {split_model_name_tag(name) for name in timm.list_models(exclude_filters='fg_*', include_tags=True)}
    assert tagged == {(PREFIX + name, tag) for name, tag in hosts if timm.is_model(PREFIX + name)}


def test_networks_of_a_module_are_those_of_timm():
    assert not [name for name in timm.list_models(module='resnet') if name.startswith(PREFIX)]
    assert timm.list_models(module='zoo') == timm.list_models('fg_*')
    assert list_modules().count('zoo') == 1


def test_registering_again_changes_nothing():
    before = timm.list_models(include_tags=True)
    entrypoint = timm.model_entrypoint('fg_resnet18')
    register_zoo()
    assert timm.list_models(include_tags=True) == before
    assert timm.model_entrypoint('fg_resnet18') is entrypoint


def test_importing_instantiates_nothing():
    program = (
        'import timm\n'
        'from torch import nn\n'
        'def refuse(self, *args, **kwargs): raise AssertionError(type(self))\n'
        'nn.Module.__init__ = refuse\n'
        'import fg_plugin\n'
        'assert timm.is_model("fg_resnet18")\n'
    )
    subprocess.run([sys.executable, '-c', program], check=True, timeout=120)


@pytest.mark.parametrize('name', ['resnet18', 'fg_resnet18', 'resnet18.a1_in1k', 'fg_resnet18.a1_in1k'])
def test_the_host_behind_a_name(name):
    assert host_architecture(name) == 'resnet18'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('fg_resnet81', r"'fg_resnet81' is no architecture of timm.*Closest names: .*resnet18"),
        ('convnext_atom', r"'convnext_atom' is no architecture.*convnext_atto"),
        ('fg_naflexvit_base_patch16_gap', r"'naflexvit_base_patch16_gap' has no nn\.Conv2d, and so no filters"),
    ],
)
def test_unknown_architectures(name, message):
    with pytest.raises(UnknownArchitectureError, match=message):
        host_architecture(name)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('fg_resnet81', r'Unknown model \(fg_resnet81\): .*Closest names: .*resnet18'),
        ('fg_resnet81.a1_in1k', r'Unknown model \(fg_resnet81\): .*Closest names: .*resnet18'),
        ('fg_naflexvit_base_patch16_gap', r'Unknown model \(fg_naflexvit_base_patch16_gap\): .*no nn\.Conv2d'),
        ('resnet81', r'^Unknown model \(resnet81\)$'),
    ],
)
def test_create_model_says_why_it_refuses_an_unknown_name(name, message):
    with pytest.raises(RuntimeError, match=message):
        timm.create_model(name)
    assert not timm.is_model(name.split('.')[0])


def test_a_network_without_convolution_cannot_be_converted():
    with torch.device('meta'):
        model = timm.create_model('naflexvit_base_patch16_gap')
    with pytest.raises(fg_plugin.NothingMatchedError, match=r'NaFlexVit has no nn\.Conv2d, and so no filters'):
        fg_plugin.convert_(model)
