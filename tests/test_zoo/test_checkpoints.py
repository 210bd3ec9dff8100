"""Weights: the host's pretrained ones, and files of plain and of converted networks."""

import copy

import pytest
import safetensors.torch
import timm
import torch
from generated_keys import generated_keys
from test_zoo.networks import images, make, perturb_
from timm.models import load_checkpoint
from timm.models._manipulate import reinit_non_persistent_buffers
from torch import nn

import fg_plugin
from fg_plugin import FilterRepoConv

NAME = 'test_resnet'
x = images(NAME).float()


@pytest.fixture
def host():
    """A trained plain network."""
    torch.manual_seed(5)
    return perturb_(timm.create_model(NAME)).eval()


def save(model, path):
    if path.suffix == '.safetensors':
        safetensors.torch.save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return str(path)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_pretrained_weights_come_from_where_the_host_finds_them(host, tmp_path, suffix):
    overlay = dict(file=save(host, tmp_path / f'weights{suffix}'))
    model = timm.create_model(f'fg_{NAME}.r160_in1k', pretrained=True, pretrained_cfg_overlay=overlay).eval()
    close(model(x), host(x))


@pytest.mark.parametrize('name', ['test_resnet', 'resnet18', 'resnet18.fb_swsl_ig1b_ft_in1k'])
def test_the_hosts_repository_is_downloaded(monkeypatch, name):
    asked = []

    def download(repository, *args, **kwargs):
        asked.append(repository)
        return timm.create_model(name).state_dict()

    monkeypatch.setattr('timm.models._builder.load_state_dict_from_hf', download)
    timm.create_model(name, pretrained=True)
    timm.create_model(f'fg_{name}', pretrained=True)
    assert asked[0] == asked[1]
    assert asked[0].startswith('timm/')


def test_pretrained_weights_for_other_classes_and_channels(host, tmp_path):
    kwargs = dict(
        pretrained=True,
        pretrained_cfg_overlay=dict(file=save(host, tmp_path / 'weights.pth')),
        num_classes=0,
        in_chans=1,
    )
    model, plain = (timm.create_model(name, **kwargs).eval() for name in (f'fg_{NAME}', NAME))
    close(model(x[:, :1]), plain(x[:, :1]))
    model.reset_classifier(3)
    assert model(x[:, :1]).shape == (2, 3)


def test_pretrained_weights_that_have_generated_filters(tmp_path):
    file = save(timm.create_model(f'fg_{NAME}'), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=f'of fg_{NAME} should be those of {NAME}, .* Load them by checkpoint_path'):
        timm.create_model(f'fg_{NAME}', pretrained=True, pretrained_cfg_overlay=dict(file=file))
    timm.create_model(f'fg_{NAME}', checkpoint_path=file)


@pytest.mark.parametrize('feature_cls', ['list', 'hook', 'getter', 'fx'])
def test_pretrained_features(host, tmp_path, feature_cls):
    kwargs = dict(
        pretrained=True,
        pretrained_cfg_overlay=dict(file=save(host, tmp_path / 'weights.pth')),
        features_only=True,
        feature_cls=feature_cls,
    )
    model, plain = (timm.create_model(name, **kwargs).eval() for name in (f'fg_{NAME}', NAME))
    for actual, expected in zip(model(x), plain(x), strict=True):
        close(actual, expected)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('options', [dict(), dict(fg_rank=3), dict(fg_head='full', fg_reconstruction_weight=1)])
def test_a_file_of_a_plain_network(host, tmp_path, suffix, options):
    path = save(host, tmp_path / f'plain{suffix}')
    model = timm.create_model(f'fg_{NAME}', checkpoint_path=path, **options).eval()
    close(model(x), host(x))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('options', [dict(), dict(fg_rank=3), dict(fg_num_base_filters=4), dict(fg_init='orthogonal')])
def test_a_file_of_a_converted_network(tmp_path, suffix, options):
    trained = make(NAME, **options).float()
    path = save(trained, tmp_path / f'fg{suffix}')
    model = timm.create_model(f'fg_{NAME}', checkpoint_path=path, **options).eval()
    assert torch.equal(model(x), trained(x))


def test_a_training_checkpoint_of_timm(tmp_path):
    trained, average = make(NAME).float(), make(NAME, num_classes=1000).float()
    average.fc.bias.data.add_(1)
    path = tmp_path / 'last.pth'
    torch.save(
        dict(
            state_dict={f'module.{key}': value for key, value in trained.state_dict().items()},
            state_dict_ema=average.state_dict(),
            epoch=3,
        ),
        path,
    )
    model = timm.create_model(f'fg_{NAME}').eval()
    load_checkpoint(model, str(path), use_ema=False)
    assert torch.equal(model(x), trained(x))
    load_checkpoint(model, str(path))
    assert torch.equal(model(x), average(x))


def test_a_few_base_filters_approximate_a_plain_network(host, tmp_path):
    path = save(host, tmp_path / 'plain.pth')
    errors = []
    for count in (2, 16):
        include = dict(fg_include=['conv1.0', 'layer1.*'])
        model = timm.create_model(f'fg_{NAME}', checkpoint_path=path, fg_num_base_filters=count, **include).eval()
        errors.append((model(x) - host(x)).norm().item())
    assert errors[1] < 0.7 * errors[0]


def test_a_file_that_fits_neither(host, tmp_path):
    state = {f'backbone.{key}': value for key, value in host.state_dict().items()}
    torch.save(state, tmp_path / 'other.pth')
    message = r'fit ResNet with generated filters or without.*missing conv1\.0\.weight.*unknown.*backbone\.conv1\.0\.w'
    with pytest.raises(RuntimeError, match=message):
        timm.create_model(f'fg_{NAME}', checkpoint_path=str(tmp_path / 'other.pth'))


def test_a_file_of_another_conversion(tmp_path):
    path = save(make(NAME, fg_rank=3).float(), tmp_path / 'rank3.pth')
    with pytest.raises(RuntimeError, match=r'size mismatch for conv1\.0\.coefficient_head'):
        timm.create_model(f'fg_{NAME}', checkpoint_path=path)


def test_the_host_does_not_take_the_generator(tmp_path):
    model = make(NAME).float()
    plain = timm.create_model(NAME)
    result = plain.load_state_dict(model.state_dict(), strict=False)
    assert set(result.unexpected_keys) == generated_keys(model)
    assert not result.missing_keys


def test_a_file_that_fits_in_part(host):
    model = make(NAME).float()
    state = host.state_dict()
    del state['fc.bias']
    state['other'] = torch.zeros(1)
    result = model.load_state_dict(state, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (['fc.bias'], ['other'])


@pytest.mark.parametrize('name', ['test_vit', 'iformer_t'])
@pytest.mark.parametrize('options', [dict(), dict(fg_num_base_filters=4), dict(fg_reconstruction_weight=1.0)])
def test_weights_initialised_after_to_empty(name, options):
    model = timm.create_model(f'fg_{name}', device='meta', **options).to_empty(device='cpu').eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(float('nan'))
    model.init_weights()
    tensors = (*model.named_parameters(), *model.named_buffers())
    assert not [key for key, tensor in tensors if not tensor.isfinite().all()]
    layers = [module for module in model.modules() if isinstance(module, FilterRepoConv)]
    assert layers
    codes = torch.rand(2, layers[0].code_dim)
    static = layers[0].coefficient_head(codes).dense().std(0).max() == 0
    assert static == ('fg_num_base_filters' not in options)
    assert not any(level.fc.bias.any() for level in model.fg_generator.neck.levels)


def test_weights_loaded_by_the_hosts_initialisation_stay():
    class Host(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x)

        def init_weights(self, state):
            self.load_state_dict(state)

    model = Host()
    fg_plugin.convert_(model, mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 64, 64), num_base_filters=4)
    perturb_(model)
    state = copy.deepcopy(model.state_dict())
    model.init_weights(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_buffers_that_no_file_holds(host):
    model, twin = make(NAME).float(), timm.create_model(f'fg_{NAME}', device='meta').to_empty(device='cpu').eval()
    twin.fg_generator.input_mean.fill_(float('nan'))
    reinit_non_persistent_buffers(twin)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))
