import pytest
import torch
from torch import nn

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.conv_selection import NothingMatchedError
from fg_plugin.conv_trace import trace_convs
from fg_plugin.convert_convs import convert_convs_, freeze_convs_, revert_convs_
from fg_plugin.layers import FilterRepoConv

OPTIONS = dict(code_dims=(4, 4, 4), level_sizes=(16, 8, 4), input_size=(3, 16, 16))


class PositionBias(nn.Module):
    """A convolution over a position table: it sees a batch of one, whatever the input."""

    def __init__(self):
        super().__init__()
        self.register_buffer('table', torch.ones(1, 2, 4, 4))
        self.conv = nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return x + self.conv(self.table).mean()


class Host(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.blocks = nn.Sequential(
            nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        )
        self.alias = self.shared
        self.position = PositionBias()
        self.unused = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.position(self.blocks(self.alias(self.shared(self.stem(x)))))


def run(model, x):
    codes = tuple(torch.randn(len(x), 4).to(x) for _ in range(3))
    with conditioning_scope(Conditioning(model, codes)):
        return model(x)


def test_right_after_conversion_the_output_is_the_same():
    model, x = Host().double().eval(), torch.randn(2, 3, 16, 16).double()
    expected, keys = model(x), model.state_dict().keys()
    convert_convs_(model, **OPTIONS)
    torch.testing.assert_close(run(model, x), expected, rtol=0, atol=1e-13)
    assert keys <= model.state_dict().keys()


def test_records():
    records = {record.name: record for record in convert_convs_(Host(), **OPTIONS, exclude=['stem'])}
    assert {name: record.level for name, record in records.items()} == {
        'stem': None,
        'shared': 0,
        'blocks.0': 1,
        'blocks.2': 2,
        'position.conv': None,
        'unused': None,
    }
    assert records['stem'].reason == 'excluded'
    assert records['position.conv'].reason == 'it does not run once per sample'
    assert records['unused'].reason == "the model's forward does not call it"


def test_a_shared_module_is_converted_once_and_stays_shared():
    model = Host()
    convert_convs_(model, **OPTIONS)
    assert isinstance(model.shared, FilterRepoConv)
    assert model.alias is model.shared


def test_levels_by_resolution():
    records = convert_convs_(Host(), **OPTIONS, levels='resolution')
    assert {record.name: record.level for record in records if record.level is not None} == {
        'stem': 0,
        'shared': 0,
        'blocks.0': 1,
        'blocks.2': 2,
    }


def test_levels_by_name():
    model = Host()
    convert_convs_(model, **OPTIONS, include=['stem', 'blocks.*'], levels={'*': 0, 'blocks.*': 2})
    assert (model.stem.level, model.blocks[0].level, model.blocks[2].level) == (0, 2, 2)


def test_hooks_and_modes_are_kept():
    model, calls = Host(), []
    model.stem.register_forward_hook(lambda *_: calls.append('stem'))
    model.blocks.eval()
    convert_convs_(model, **OPTIONS)
    run(model, torch.randn(2, 3, 16, 16))
    assert calls == ['stem']
    assert model.stem.training
    assert not model.blocks[0].training
    assert model.stem.name == 'stem'


def test_revert_gives_the_model_back_bit_for_bit():
    model, x = Host().eval(), torch.randn(2, 3, 16, 16)
    expected, state = model(x), {key: value.clone() for key, value in model.state_dict().items()}
    convert_convs_(model, **OPTIONS)
    revert_convs_(model)
    assert torch.equal(model(x), expected)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.alias is model.shared


def test_revert_is_all_or_none():
    model = Host()
    convert_convs_(model, **OPTIONS, num_base_filters=2)
    with pytest.raises(ValueError, match="'stem' cannot be reverted: its repository of 2 base filters"):
        revert_convs_(model)
    assert isinstance(model.stem, FilterRepoConv)
    with pytest.raises(ValueError, match='no generated-filter layer: it was not converted'):
        revert_convs_(Host())


def test_a_float_is_the_ratio_of_base_filters_to_filters():
    model = Host()
    convert_convs_(model, **OPTIONS, num_base_filters=0.2)
    assert [model.stem.num_base_filters, model.blocks[0].num_base_filters] == [1, 2]
    model = Host()
    convert_convs_(model, **OPTIONS, num_base_filters=1.0)
    revert_convs_(model)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (
            dict(include=['stern']),
            NothingMatchedError,
            "'stern' matches none of the 6 convolutions. Closest names: stem",
        ),
        (dict(exclude=['head.*']), NothingMatchedError, r"'head\.\*' matches none"),
        (dict(include=['unused']), ValueError, "'unused', which cannot be converted: the model's forward does not"),
        (dict(include=['un*']), NothingMatchedError, 'leave nothing to convert'),
        (dict(levels='width'), ValueError, "levels should be 'depth', 'resolution' or a mapping"),
        (dict(levels={'stem': 0}), ValueError, "does not cover 'shared'"),
        (dict(levels={'*': 3}), ValueError, r"levels\['\*'\] should be in \[0, 3\), but got 3"),
        (dict(levels={'stern': 0}), NothingMatchedError, 'matches no converted convolution. Closest names: stem'),
        (
            dict(num_base_filters=0),
            ValueError,
            "'stem' cannot be converted: num_base_filters should be an integer >= 1, but got 0",
        ),
        (
            dict(num_base_filters=0.0),
            ValueError,
            r"'stem' cannot be converted: num_base_filters should be > 0 as a ratio M/N \(a float\), but got 0\.0",
        ),
        (dict(head='dense'), ValueError, "'stem' cannot be converted: head should be one of"),
        (dict(input_size=(1, 16, 16)), ValueError, r'does not run on a batch of 7 inputs of size \(1, 16, 16\)'),
    ],
)
def test_errors_come_before_the_first_change(options, error, message):
    model = Host()
    with pytest.raises(error, match=message):
        convert_convs_(model, **{**OPTIONS, **options})
    assert not any(isinstance(module, FilterRepoConv) for module in model.modules())


def test_refuses_to_convert_twice():
    model = Host()
    convert_convs_(model, **OPTIONS, include=['stem'])
    with pytest.raises(ValueError, match="converted already: 'stem' is a FilterRepoConv"):
        convert_convs_(model, **OPTIONS)


def test_subclasses_and_parametrised_convolutions_stay_static():
    class StandardisedConv(nn.Conv2d):
        pass

    model = nn.Sequential(
        StandardisedConv(3, 4, 3), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), nn.Conv2d(4, 4, 3)
    )
    records = convert_convs_(model, **OPTIONS)
    assert [record.level for record in records] == [None, None, 2]
    assert 'its class StandardisedConv may change its weight' in records[0].reason
    assert records[1].reason == 'its weight is parametrised'


def test_trace_leaves_the_model_as_it_is():
    model = Host()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    calls = trace_convs(model, (3, 16, 16))
    assert calls[model.blocks[0]].out_shape == (7, 8, 8, 8)
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_trace_leaves_nothing_in_the_caches_of_the_network():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.cached, self.by_size, self.sizes, self.seen = None, {}, [], set()
            self.register_buffer('table', torch.zeros(1), persistent=False)

        def forward(self, x):
            size = x.shape[2]
            self.cached = self.by_size[size] = self.table = torch.arange(size)
            self.extra = self.cached
            self.sizes.append(self.cached)
            self.seen.add(size)
            return self.conv(x) * self.table

    model = Caching()
    trace_convs(model, (3, 16, 16))
    assert (model.cached, model.by_size, model.sizes, model.seen) == (None, {}, [], set())
    assert torch.equal(model.table, torch.zeros(1))
    assert not hasattr(model, 'extra')


def test_frozen_filters_are_those_of_the_given_code():
    model, x = Host().double().eval(), torch.randn(2, 3, 16, 16).double()
    convert_convs_(model, **OPTIONS, init='orthogonal')
    codes = tuple(torch.randn(1, 4).double() for _ in range(3))
    with conditioning_scope(Conditioning(model, codes)):
        expected = model(x)
    freeze_convs_(model, codes)
    assert not any(isinstance(module, FilterRepoConv) for module in model.modules())
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)
