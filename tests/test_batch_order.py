"""Convolutions whose batch is not that of the samples."""

import pytest
import timm
import torch
from perturbed import perturb_heads_
from torch import nn

import fg_plugin
from fg_plugin import convert_

INPUT = dict(mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 32, 32))
NOT_SAMPLE_MAJOR = 'its batch holds 2 rows per sample, which are not next to each other'


class Core(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c1 = nn.Conv2d(3, 8, 3, padding=1)
        self.c2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def features(self, x):
        return self.c2(self.c1(x).relu())

    def head(self, features):
        return self.fc(features.mean((2, 3)))


class ViewByView(Core):
    """The views of all samples one after the other: a1 b1 a2 b2."""

    def forward(self, x):
        out = self.head(self.features(torch.cat([x, x.flip(-1)])))
        return out[: len(x)] + out[len(x) :]


class SampleBySample(Core):
    """The views of one sample after the other: a1 a2 b1 b2."""

    def forward(self, x):
        return self.head(self.features(torch.stack([x, x.flip(-1)], 1).flatten(0, 1))).unflatten(0, (-1, 2)).sum(1)


class PartlyViewByView(Core):
    def forward(self, x):
        features = self.c1(x)
        out = self.head(self.c2(torch.cat([features, features.flip(-1)])))
        return out[: len(x)] + out[len(x) :]


class LaterViewByView(Core):
    """Its convolutions run on the samples first, and then on their views."""

    def forward(self, x):
        out = self.head(self.features(torch.cat([x, x.flip(-1)])))
        return self.head(self.features(x)) + out[: len(x)] + out[len(x) :]


class Unbatched(Core):
    def forward(self, x):
        return self.head(torch.stack([self.c2(sample) for sample in self.c1(x)]))


class Windows(Core):
    """Folds 16x16 windows into the batch, with modules whose values matter for the run."""

    def __init__(self):
        super().__init__()
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.temperature = nn.Parameter(torch.ones(()))
        self.register_buffer('mask', torch.full((4, 4), float('-inf')).triu(1))
        self.register_buffer('index', torch.arange(8), persistent=False)
        self.register_buffer('calls', torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        features = self.norm(self.c1(x).movedim(1, -1))[..., self.index] / self.temperature
        windows = features.unflatten(1, (2, 16)).unflatten(3, (2, 16)).transpose(2, 3).flatten(1, 2)
        attention = (self.mask + 0 * windows.mean((2, 3)).sum(-1).unsqueeze(-1)).softmax(-1)
        windows = torch.einsum('bij,bj...->bi...', attention, windows).flatten(0, 1).movedim(-1, 1)
        return self.head(self.c2(windows)).unflatten(0, (-1, 4)).sum(1)


def reasons(model, **options):
    return {record.name: record.reason for record in convert_(model, **INPUT, **options)}


def assert_sample_by_sample(model):
    x = torch.rand(3, *INPUT['input_size'], dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([model(sample[None]) for sample in x])
        torch.testing.assert_close(model(x), alone, rtol=0, atol=1e-12)


def test_views_stacked_sample_by_sample_are_converted():
    model = SampleBySample()
    assert reasons(model) == {'c1': '', 'c2': ''}
    assert_sample_by_sample(perturb_heads_(model).double().eval())


def test_windows_are_converted_and_the_run_leaves_no_trace():
    model = Windows()
    model.c1.register_forward_hook(lambda *_: pytest.fail('a hook of the user ran'))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert reasons(model, include=['c2']) == {'c1': 'not included', 'c2': ''}
    assert model.training
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert model.calls.device == model.mask.device == torch.device('cpu')
    model.c1._forward_hooks.clear()
    assert_sample_by_sample(perturb_heads_(model).double().eval())


@pytest.mark.parametrize(
    ('host', 'static'),
    [
        (PartlyViewByView, {'c2': NOT_SAMPLE_MAJOR}),
        (Unbatched, {'c2': 'it is called with one sample (C, H, W) without a batch'}),
    ],
)
def test_others_stay_static(host, static):
    model = host()
    assert reasons(model) == {'c1': '', **static}
    assert_sample_by_sample(perturb_heads_(model).double().eval())
    with pytest.raises(ValueError, match=r"include names 'c2', which cannot be converted: it"):
        convert_(host(), **INPUT, include=['c2'])


@pytest.mark.parametrize('host', [ViewByView, LaterViewByView])
def test_a_network_of_only_such_convolutions_is_refused(host):
    with pytest.raises(fg_plugin.NothingMatchedError, match=f"nothing to convert: 'c1': {NOT_SAMPLE_MAJOR}; 'c2'"):
        convert_(host(), **INPUT)


def test_an_order_that_cannot_be_found_out():
    class Checked(SampleBySample):
        def features(self, x):
            torch._assert_async(x.isfinite().all())
            return super().features(x)

    with pytest.raises(fg_plugin.NothingMatchedError, match="'c1': its batch holds 2 rows per sample, in an unknown"):
        convert_(Checked(), **INPUT)


@pytest.mark.parametrize('prepare', [lambda model: model.half(), lambda model: model.to('meta')])
@pytest.mark.parametrize('host', [Windows, PartlyViewByView])
def test_neither_values_nor_dtypes_matter(host, prepare):
    assert reasons(prepare(host())) == reasons(host())


@pytest.mark.parametrize('host', [SampleBySample, PartlyViewByView])
def test_a_dry_run_tells_the_same(host):
    model = host()
    promised = fg_plugin.report(model, **INPUT)
    convert_(model, **INPUT)
    assert fg_plugin.report(model) == promised


@pytest.mark.parametrize('name', ['efficientvit_m0', 'mvitv2_tiny'])
def test_architectures_that_fold_into_the_batch_are_converted(name):
    with torch.device('meta'):
        model = timm.create_model(f'fg_{name}')
    assert not [record for record in model.fg_conversion.records if record.reason]


class OfFixedRows(Core):
    """One convolution runs on a table of the network, of as many rows as a small batch may have."""

    def __init__(self, rows):
        super().__init__()
        self.register_buffer('table', torch.rand(rows, 8, 32, 32))

    def forward(self, x):
        return self.head(self.c1(x) + self.c2(self.table).sum(0, keepdim=True))


@pytest.mark.parametrize('rows', [1, 2, 3, 4, 8, 14, 16, 49])
def test_a_convolution_of_a_table_stays_static(rows):
    model = OfFixedRows(rows)
    records = {record.name: record for record in convert_(model, **INPUT)}
    assert records['c1'].reason == ''
    assert records['c2'].reason
    assert model(torch.rand(3, 3, 32, 32)).shape == (3, 5)


class Tiles(Core):
    """Tiles of 32x32 from the top, those of all samples one after the other or those of one sample."""

    def __init__(self, by_sample=False):
        super().__init__()
        self.by_sample = by_sample

    def forward(self, x):
        tiles = torch.stack(x.split(32, 2), 1 if self.by_sample else 0)
        out = self.head(self.features(tiles.flatten(0, 1)))
        return out.unflatten(0, tiles.shape[:2]).sum(1 if self.by_sample else 0)


TALL = torch.rand(3, 3, 64, 32, dtype=torch.float64)


def test_an_order_that_the_trace_did_not_see_is_refused():
    model = Tiles()
    assert reasons(model) == {'c1': '', 'c2': ''}
    assert_sample_by_sample(perturb_heads_(model).double().eval())
    with pytest.raises(RuntimeError, match=r"'c1' should hold one row per sample.* but holds 2,.*with an input_size"):
        model(TALL)
    # Of one image, the order does not matter.
    assert model(TALL[:1]).shape == (1, 5)
    with torch.no_grad(), model.conditioned_on(TALL[:1]):
        torch.testing.assert_close(model(TALL)[1:2], model(TALL[1:2]))
    tall = {**INPUT, 'input_size': (3, 64, 32)}
    with pytest.raises(fg_plugin.NothingMatchedError, match=NOT_SAMPLE_MAJOR):
        convert_(Tiles(), **tall)
    model = Tiles(by_sample=True)
    convert_(model, **tall)
    assert_sample_by_sample(perturb_heads_(model).double().eval())
    torch.testing.assert_close(model(TALL), torch.cat([model(sample[None]) for sample in TALL]), rtol=0, atol=1e-12)


def test_convolutions_that_are_called_by_keyword():
    class ByKeyword(SampleBySample):
        def features(self, x):
            return self.c2(input=self.c1(input=x).relu())

    model = ByKeyword()
    assert reasons(model) == {'c1': '', 'c2': ''}
    assert_sample_by_sample(perturb_heads_(model).double().eval())
