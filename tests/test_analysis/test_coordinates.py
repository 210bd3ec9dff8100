import pytest
import torch
from timm.layers import ScaledStdConv2d
from torch import nn

from fg_plugin.analysis.coordinates import (
    coefficient_coordinates,
    filter_coordinates,
    mean_square,
    principal_coordinates,
    variance,
)
from fg_plugin.analysis.filter_samples import MAX_FILTERS, filter_samples
from fg_plugin.analysis.variation import variation
from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.filter_repo_conv import HEADS
from fg_plugin.layers.standardised_filter_repo_conv import StandardisedFilterRepoConv

LAYERS = {
    'full': dict(head='full'),
    'full, fewer base filters': dict(head='full', num_base_filters=5),
    'lowrank': dict(head='lowrank', rank=3),
    'lowrank, fewer base filters': dict(head='lowrank', rank=3, num_base_filters=5),
    'residual': dict(head='residual', rank=3),
    'residual, fewer base filters': dict(head='residual', rank=3, num_base_filters=5),
    'grouped': dict(head='lowrank', rank=3, groups=2),
}


def make_layer(groups=1, **options):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 20, 3, groups=groups)
    layer = FilterRepoConv.from_conv(conv, code_dim=6, init='orthogonal', **options)
    return layer.double(), torch.randn(7, 6).double()


def dense_values(layer, codes, of_filters):
    coefficients = layer.coefficient_head(codes)
    return (coefficients.filters(layer.weight) if of_filters else coefficients.dense()).flatten(1).detach()


@pytest.mark.parametrize('of_filters', [False, True], ids=['coefficients', 'filters'])
@pytest.mark.parametrize('options', LAYERS.values(), ids=LAYERS.keys())
def test_distances_and_statistics_are_those_of_the_whole_vectors(options, of_filters):
    layer, codes = make_layer(**options)
    values = dense_values(layer, codes, of_filters)
    coordinates = (filter_coordinates if of_filters else coefficient_coordinates)(layer, codes)
    assert coordinates.shape[1] <= 6
    torch.testing.assert_close(torch.cdist(coordinates, coordinates), torch.cdist(values, values))
    expected = (values - values.mean(0)).square().sum(1).mean().item()
    assert variance(coordinates) == pytest.approx(expected)
    assert mean_square(layer, codes, coordinates, of_filters) == pytest.approx(values.square().sum(1).mean().item())


def test_weight_standardised_layers_give_their_filters_before_it():
    torch.manual_seed(0)
    layer = StandardisedFilterRepoConv.from_conv(
        ScaledStdConv2d(4, 8, 3), code_dim=6, head='lowrank', init='orthogonal'
    )
    layer, codes = layer.double(), torch.randn(5, 6).double()
    values = dense_values(layer, codes, True)
    coordinates = filter_coordinates(layer, codes)
    torch.testing.assert_close(torch.cdist(coordinates, coordinates), torch.cdist(values, values))


def test_principal_coordinates_keep_distances_and_order_by_variance():
    features = torch.randn(9, 30, dtype=torch.float64)
    all_of_them = principal_coordinates(features, 9)
    torch.testing.assert_close(torch.cdist(all_of_them, all_of_them), torch.cdist(features, features))
    spreads = all_of_them.square().sum(0)
    assert torch.all(spreads[:-1] >= spreads[1:] - 1e-9)
    torch.testing.assert_close(principal_coordinates(features, 2), all_of_them[:, :2])


@pytest.mark.parametrize('options', LAYERS.values(), ids=LAYERS.keys())
def test_filters_of_samples_are_their_own(options):
    layer, codes = make_layer(**options)
    chosen = torch.tensor([4, 1])
    samples = filter_samples(layer, codes, chosen)
    whole = layer.coefficient_head(codes).filters(layer.weight).detach().float()
    torch.testing.assert_close(samples.generated, whole[chosen, :MAX_FILTERS])
    torch.testing.assert_close(samples.mean, whole[:, :MAX_FILTERS].mean(0))
    torch.testing.assert_close(samples.base, layer.weight.detach().float()[:MAX_FILTERS])


class TestVariation:
    def test_coefficients_and_filters_have_a_ratio_each(self):
        layer, codes = make_layer(head='full')
        with torch.no_grad():
            layer.weight[0] *= 9
        report = variation({'conv': layer}, [codes])['conv']
        for of_filters, name in ((False, 'coefficients'), (True, 'filters')):
            values = dense_values(layer, codes, of_filters)
            expected = (values - values.mean(0)).square().sum() / values.square().sum()
            assert report[name] == pytest.approx(expected.item())
        assert report['filters'] != pytest.approx(report['coefficients'], rel=0.01)

    @pytest.mark.parametrize('head', HEADS)
    def test_a_fresh_conversion_has_collapsed(self, head):
        layer = FilterRepoConv.from_conv(nn.Conv2d(3, 8, 3), code_dim=6, head=head, rank=2)
        report = variation({'conv': layer}, [torch.randn(10, 6)])['conv']
        assert report == {'coefficients': 0, 'filters': 0, 'collapsed': True}

    @pytest.mark.parametrize(('size', 'collapsed'), [(0.003, True), (0.03, False)])
    def test_the_threshold_is_one_hundredth_of_the_coefficients(self, size, collapsed):
        layer = FilterRepoConv.from_conv(nn.Conv2d(3, 8, 3), code_dim=1, head='full')
        layer.coefficient_head.init_static_(None)
        with torch.no_grad():
            # Coefficients I (1 + size z) for z of variance 1.
            layer.coefficient_head.linear.weight.copy_(size * torch.eye(8).reshape(-1, 1))
        codes = torch.tensor([[-1.0], [1.0]])
        report = variation({'conv': layer}, [codes])['conv']
        assert report['coefficients'] == pytest.approx(size**2 / (1 + size**2), rel=1e-4)
        assert report['filters'] == pytest.approx(report['coefficients'], rel=1e-4)
        assert report['collapsed'] is collapsed

    def test_each_layer_takes_the_codes_of_its_level(self):
        layers = {str(level): make_layer()[0] for level in (0, 1)}
        layers['1'].level = 1
        report = variation(layers, [torch.randn(10, 6).double(), torch.ones(10, 6).double()])
        assert not report['0']['collapsed']
        assert report['1']['collapsed']
