import copy
import json

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fg_plugin
from fg_plugin import NothingMatchedError
from fg_plugin.layers import FilterRepoConv

INPUT = dict(input_size=(3, 16, 16), mean=(0, 0, 0), std=(1, 1, 1))


class OwnConv(nn.Conv2d):
    pass


class Host(nn.Module):
    """On 16x16 images: maps of 16x16 up to ``twice``, then of 8x8."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.twice = nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
        self.grouped = nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=4)
        self.wide = nn.Conv2d(16, 16, (1, 3), stride=(2, 1), padding=(0, 1))
        self.own = OwnConv(16, 16, 1)
        self.unused = nn.Conv2d(1, 1, 1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.twice(self.twice(self.stem(x)))
        return self.fc(self.own(self.wide(self.grouped(self.depthwise(x)))).mean((2, 3)))


MACS = {
    'stem': 256 * 8 * 27,
    'twice': 2 * 256 * 8 * 8,
    'depthwise': 64 * 8 * 25,
    'grouped': 64 * 16 * 18,
    'wide': 32 * 16 * 48,
    'own': 32 * 16 * 16,
    'unused': 0,
}


def rows_of(report):
    return {row.name: row for row in report.rows}


def macs_of(model, *input_size):
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.eval()(torch.rand(1, *input_size))
    return counter.get_total_flops() // 2


def test_costs_of_the_host_are_those_of_the_closed_forms():
    host = Host()
    report = fg_plugin.report(host, **INPUT)
    assert {row.name: row.before.macs for row in report.rows} == MACS
    assert report.before.macs == sum(MACS.values()) + 160
    assert rows_of(report)['grouped'].before.parameters == 16 * 2 * 9 + 16
    assert report.before.parameters == sum(parameter.numel() for parameter in host.parameters())


def test_kinds():
    kinds = {row.name: row.kind for row in fg_plugin.report(Host(), **INPUT).rows}
    assert kinds == {
        'stem': '3x3',
        'twice': '1x1',
        'depthwise': 'depthwise 5x5 /2',
        'grouped': 'grouped(4) 3x3 dilated 2x2',
        'wide': '1x3 /2x1',
        'own': '1x1 OwnConv',
        'unused': '1x1',
    }


def test_what_stays_static_has_its_reason_and_no_cost_added():
    rows = rows_of(fg_plugin.report(Host(), **INPUT, exclude=['stem']))
    assert {name: row.reason for name, row in rows.items() if row.reason} == {
        'stem': 'excluded',
        'own': 'its class OwnConv may change its weight before it convolves',
        'unused': "the model's forward does not call it",
    }
    for name, row in rows.items():
        assert (row.level is None) == (row.num_base_filters is None) == (name in ('stem', 'own', 'unused'))
    assert rows['stem'].after == rows['stem'].before


@pytest.mark.parametrize(
    ('path', 'macs'),
    [
        ('factored', 64 * 64 * (16 * 72 + 32 * 16)),  # maps of the base filters, and their combination
        ('materialised', 32 * 16 * 72 + 64 * 64 * 32 * 72),  # filters, and the convolution with them
    ],
)
def test_cost_of_a_generated_layer_is_that_of_the_closed_form(path, macs):
    model = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(32, 4, 1))
    fg_plugin.convert_(
        model, include=['0'], head='full', num_base_filters=16, input_size=(8, 64, 64), mean=(0,) * 8, std=(1,) * 8
    )
    model[0].path = path
    row = fg_plugin.report(model).rows[0]
    assert row.after.parameters == 16 * 72 + (64 + 1) * 32 * 16
    # The head makes 32 x 16 coefficients of a code of length 64.
    assert row.after.macs == 64 * 32 * 16 + macs


@pytest.mark.parametrize('options', [{}, dict(head='full'), dict(rank=2, reconstruction_weight=1.0)])
def test_totals_are_those_of_the_networks(options):
    host = Host()
    report = fg_plugin.report(host, **INPUT, **options)
    assert report.before.macs == macs_of(host, 3, 16, 16)
    fg_plugin.convert_(host, **INPUT, **options)
    assert report.after.macs == macs_of(host, 3, 16, 16)
    assert report.after.parameters == sum(parameter.numel() for parameter in host.parameters())
    generator = host.fg_generator
    assert report.generator.parameters == sum(parameter.numel() for parameter in generator.parameters())
    assert report.generator.macs == macs_of(generator, 3, 16, 16)
    added = [row.after.macs - row.before.macs for row in report.rows]
    assert report.after.macs - report.before.macs == sum(added) + report.generator.macs


@pytest.mark.parametrize(
    'options', [{}, dict(exclude=['stem']), dict(num_base_filters=1), dict(init='orthogonal', num_base_filters=20)]
)
def test_a_dry_run_tells_what_the_conversion_does(options):
    host = Host()
    promised = fg_plugin.report(host, **INPUT, **options)
    fg_plugin.convert_(host, **INPUT, **options)
    assert fg_plugin.report(host) == promised


def test_neither_the_model_nor_the_random_state_changes():
    host = Host().train()
    host.stem.eval()
    host.stem.register_forward_hook(lambda *_: pytest.fail('a hook of the user ran'))
    before, state = copy.deepcopy(host.state_dict()), torch.get_rng_state()
    modules = {name: (module, type(module), module.training) for name, module in host.named_modules()}
    for _ in range(2):
        fg_plugin.report(host, **INPUT)
        assert torch.equal(torch.get_rng_state(), state)
    assert modules == {name: (module, type(module), module.training) for name, module in host.named_modules()}
    torch.testing.assert_close(host.state_dict(), before, rtol=0, atol=0)
    fg_plugin.convert_(host, **INPUT)
    before = copy.deepcopy(host.state_dict())
    fg_plugin.report(host)
    torch.testing.assert_close(host.state_dict(), before, rtol=0, atol=0)
    assert isinstance(host.stem, FilterRepoConv)
    assert not host.stem.training


def test_energy_kept_by_few_base_filters():
    host = Host()
    energy = torch.linalg.svdvals(host.stem.weight.detach().flatten(1)).square()
    options = dict(include=['stem'], num_base_filters=3)
    stem = rows_of(fg_plugin.report(host, **INPUT, **options))['stem']
    assert stem.kept_energy == pytest.approx((energy[:3].sum() / energy.sum()).item())
    assert (stem.num_base_filters, stem.num_filters) == (3, 8)
    for options in (dict(include=['stem']), dict(include=['stem'], num_base_filters=3, init='orthogonal')):
        assert rows_of(fg_plugin.report(host, **INPUT, **options))['stem'].kept_energy is None


def test_no_kept_energy_is_told_after_other_weights_were_loaded():
    host, other = Host(), Host()
    for model in (host, other):
        fg_plugin.convert_(model, **INPUT, include=['stem'], num_base_filters=3)
    host.load_state_dict(other.state_dict())
    assert rows_of(fg_plugin.report(host))['stem'].kept_energy is None


def test_as_data():
    report = fg_plugin.report(Host(), **INPUT, num_base_filters=1)
    data = json.loads(json.dumps(report.to_dict()))
    assert data['network'] == 'Host'
    assert data['input_size'] == [3, 16, 16]
    assert data['after'] == dict(parameters=report.after.parameters, macs=report.after.macs)
    assert data['rows'][0]['kept_energy'] == report.rows[0].kept_energy
    assert data['rows'][0]['before']['macs'] == MACS['stem']


def test_as_a_table():
    report = fg_plugin.report(Host(), **INPUT, exclude=['stem'], num_base_filters=4)
    title, blank, *table = str(report).splitlines()
    assert title.startswith('Host: 4 of 7 convolutions have generated filters. Parameters +')
    assert title.endswith('(one image of 3x16x16, inference).')
    assert not blank
    assert len({len(line) for line in table}) == 1
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in table]
    assert len(cells) == 2 + 7 + 2
    assert cells[2] == ['stem', '3x3', 'static: excluded', '', '', '216', '216', '0.06', '0.06']
    twice = rows_of(report)['twice']
    assert cells[3][:6] == ['twice', '1x1', f'level {twice.level}', '4/8', f'{twice.kept_energy:.1%}', '72']
    assert cells[-1][0] == 'whole network'
    assert cells[-1][5:7] == [f'{report.before.parameters:,}', f'{report.after.parameters:,}']


def test_on_the_meta_device():
    with torch.device('meta'):
        host = Host()
    report = fg_plugin.report(host, **INPUT, num_base_filters=1)
    assert report.before.macs == sum(MACS.values()) + 160
    assert rows_of(report)['stem'].kept_energy is None


def test_convolutions_removed_and_added_after_the_conversion():
    model = timm.create_model('fg_test_resnet', num_classes=0)
    model.layer4 = nn.Identity()
    model.fc = nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), nn.LazyConv2d(10, 1))
    model(torch.rand(2, 3, 64, 64))
    rows = rows_of(fg_plugin.report(model))
    assert not any(name.startswith('layer4') for name in rows)
    assert rows['fc.1'].reason == 'it was added after the conversion'


def test_a_convolution_replaced_after_the_conversion_is_static():
    model = timm.create_model('fg_test_resnet')
    count = len(fg_plugin.report(model).rows)
    old = model.conv1[0]
    model.conv1[0] = nn.Conv2d(3, old.out_channels, 3, 2, 1, bias=False)
    report = fg_plugin.report(model)
    row = rows_of(report)['conv1.0']
    assert (row.reason, row.level) == ('it was replaced after the conversion', None)
    assert row.before == row.after
    assert f'{count - 1} of {count} convolutions' in str(report)


def test_copies_report_the_same():
    model = timm.create_model('fg_test_resnet')
    assert fg_plugin.report(copy.deepcopy(model)) == fg_plugin.report(model)


@pytest.mark.parametrize('name', ['test_vit', 'test_nfnet', 'test_efficientnet'])
def test_attention_and_other_convolutions_of_timm(name):
    model = timm.create_model(name)
    promised = fg_plugin.report(model)
    fg_plugin.convert_(model)
    assert fg_plugin.report(model) == promised


class Plain(nn.Module):
    """With attention, whose matrix products count."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer('scale', torch.ones(8, 1, 1))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8, 5)
        self.shift = torch.zeros(3, 1, 1)

    def normalise(self, x):
        return x

    def forward(self, x):
        tokens = self.depthwise(self.conv(self.normalise(x)) * self.scale).flatten(2).mT
        return self.fc(nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(1))


class HoldsTensor(Plain):
    def normalise(self, x):
        return x - self.shift


class MakesTensor(Plain):
    def normalise(self, x):
        return x * torch.linspace(0, 1, x.shape[-1])


@pytest.mark.parametrize('host', [HoldsTensor, MakesTensor])
@pytest.mark.parametrize('options', [{}, dict(num_base_filters=2), dict(head='full', reconstruction_weight=1.0)])
def test_networks_with_tensors_that_are_no_buffers(host, options):
    expected, model = fg_plugin.report(Plain(), **INPUT, **options), host()
    promised = fg_plugin.report(model, **INPUT, **options)
    assert (promised.rows, promised.before, promised.after) == (expected.rows, expected.before, expected.after)
    fg_plugin.convert_(model, **INPUT, **options)
    assert fg_plugin.report(model) == promised
    assert type(model.shift) is torch.Tensor


def test_a_converted_network_that_does_not_run_any_more():
    model = timm.create_model('fg_test_resnet')
    model.layer4 = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r'does not run on a batch of 1 input of size \(3, 160, 160\)'):
        fg_plugin.report(model)


def test_feature_networks():
    report = fg_plugin.report(timm.create_model('fg_test_resnet', features_only=True, out_indices=(0, 1)))
    assert report.network == 'FeatureListNet'
    assert not any(row.reason for row in report.rows)


def test_resnet18_costs_little_more_by_default():
    model = timm.create_model('resnet18')
    report = fg_plugin.report(model)
    assert report.before == (11_689_512, 1_814_073_344)
    assert not any(row.reason for row in report.rows)
    assert report.after.parameters <= 1.10 * report.before.parameters
    assert report.after.macs <= 1.08 * report.before.macs
    fg_plugin.convert_(model)
    assert report.after.macs == macs_of(model, 3, 224, 224)


def test_a_converted_network_takes_no_options():
    model = timm.create_model('fg_test_resnet')
    with pytest.raises(ValueError, match=r'no options for a converted network, but got rank, head\. revert_ it first'):
        fg_plugin.report(model, rank=4, head='full')


def test_a_network_inside_another_is_asked_for_itself():
    with pytest.raises(ValueError, match="the converted network itself, but got a Sequential that holds it as '1'"):
        fg_plugin.report(nn.Sequential(nn.Identity(), timm.create_model('fg_test_resnet')))


def test_a_dry_run_raises_what_the_conversion_raises():
    with pytest.raises(NothingMatchedError, match="The pattern 'layer9' matches none"):
        fg_plugin.report(timm.create_model('test_resnet'), include=['layer9'])
    with pytest.raises(ValueError, match='mean and std should be given for Host'):
        fg_plugin.report(Host())
    with pytest.raises(TypeError, match='rankk'):
        fg_plugin.report(Host(), **INPUT, rankk=4)
