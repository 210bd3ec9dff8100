"""The names that ``import fg_plugin`` adds to timm."""

import copy
import subprocess
import sys

import pytest
import timm
import torch
from test_zoo.smallest import SMALLEST
from timm.models import _registry, get_pretrained_cfg, is_model_pretrained, list_modules, split_model_name_tag
from torch import nn

import fg_plugin
from fg_plugin import UnknownArchitectureError, zoo
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


@pytest.fixture
def own_registry(monkeypatch):
    """Lets a test register names that nothing else sees."""
    for name in ('_model_entrypoints', '_model_to_module', '_module_to_models', '_deprecated_models'):
        monkeypatch.setattr(_registry, name, copy.deepcopy(getattr(_registry, name)))
    monkeypatch.setattr(zoo, '__all__', list(zoo.__all__))


@pytest.mark.usefixtures('own_registry')
def test_a_network_registered_later():
    class MyNet(nn.Module):
        def __init__(self, num_classes=10):
            super().__init__()
            self.conv = nn.Conv2d(3, num_classes, 3)
            self.pretrained_cfg = dict(mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 32, 32))

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    def my_late_net(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **kwargs):
        return MyNet(**kwargs)

    timm.models.register_model(my_late_net)
    assert host_architecture('my_late_net') == 'my_late_net'
    model = timm.create_model('fg_my_late_net', num_classes=4, fg_rank=2)
    assert isinstance(model, MyNet)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert timm.is_model('fg_my_late_net')


def test_deprecated_names_map_to_current_ones():
    assert host_architecture('fg_tv_resnet50') == host_architecture('tv_resnet50') == 'resnet50'
    with (
        torch.device('meta'),
        pytest.warns(UserWarning, match=r'deprecated model name fg_tv_resnet50 to current fg_resnet50\.tv_in1k'),
    ):
        model = timm.create_model('fg_tv_resnet50', fg_rank=2)
    assert model.pretrained_cfg['tag'] == 'tv_in1k'
    assert type(model).__name__ == 'FGResNet'
    assert 'fg_tv_resnet50' not in timm.list_models('fg_*')
    for old, new in timm.models.get_deprecated_models().items():
        if old.startswith(PREFIX):
            assert new is None or timm.is_model(new)


@pytest.mark.usefixtures('own_registry')
def test_a_name_that_timm_has_removed():
    timm.models.register_model_deprecations(__name__, {'gone': None})
    with pytest.raises(UnknownArchitectureError, match="timm has removed 'gone' without a replacement"):
        host_architecture('fg_gone')


def test_entrypoints_are_attributes_of_their_module():
    from fg_plugin.zoo import fg_resnet18

    assert fg_resnet18 is timm.model_entrypoint('fg_resnet18')
    with pytest.raises(ImportError, match='fg_resnet81'):
        from fg_plugin.zoo import fg_resnet81  # noqa: F401


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
        ('fg_fg_resnet18', r"'fg_fg_resnet18' should have the prefix 'fg_' only once: fg_resnet18"),
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
        ('fg_fg_resnet18', r'Unknown model \(fg_fg_resnet18\): .*only once: fg_resnet18'),
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
