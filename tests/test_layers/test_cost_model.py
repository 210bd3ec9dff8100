import pytest
import torch

from fg_plugin.conditioning import Conditioning, conditioning_scope
from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.compute_paths import PATHS
from fg_plugin.layers.cost_model import MEASURED_PATHS, Workload, cheapest_path, kept_elements, path_costs


def workload(channels=64, size=14, **changes):
    dense = Workload(
        batch=16,
        in_channels=channels,
        out_channels=channels,
        num_base_filters=channels,
        groups=1,
        kernel_area=9,
        in_pixels=size**2,
        out_pixels=size**2,
        rank=None,
        training=False,
        channels_last=False,
    )
    return dense._replace(**changes)


MODES = pytest.mark.parametrize('training', [False, True])
FORMATS = pytest.mark.parametrize('channels_last', [False, True])


@MODES
@FORMATS
@pytest.mark.parametrize(('channels', 'size'), [(256, 14), (512, 7), (256, 4)])
def test_wide_dense_layers_at_low_resolution_are_factored(channels, size, training, channels_last):
    work = workload(channels, size, training=training, channels_last=channels_last)
    for batch in (1, 16):
        assert cheapest_path(work._replace(batch=batch)) == 'factored'
        assert cheapest_path(work._replace(batch=batch, num_base_filters=channels // 4)) == 'factored'


@MODES
@FORMATS
@pytest.mark.parametrize('batch', [1, 16])
@pytest.mark.parametrize('rank', [None, 8])
def test_depthwise_layers_are_materialised(batch, rank, training, channels_last):
    work = workload(144, 28, batch=batch, groups=144, rank=rank, training=training, channels_last=channels_last)
    assert cheapest_path(work) == 'materialised'


@MODES
@FORMATS
def test_pointwise_expansions_at_high_resolution_are_unfolded(training, channels_last):
    # With M = N, the factored path combines 256 maps into 256 where the convolution combines 64.
    work = workload(64, 56, kernel_area=1, out_channels=256, num_base_filters=256, training=training)
    assert cheapest_path(work._replace(channels_last=channels_last)) == 'unfolded'


@MODES
def test_few_base_filters_make_a_pointwise_layer_factored(training):
    work = workload(1024, 14, kernel_area=1, out_channels=256, num_base_filters=64, training=training)
    assert cheapest_path(work) == 'factored'


@MODES
@pytest.mark.parametrize('rank', [None, 8])
@pytest.mark.parametrize('groups', [1, 4])
@pytest.mark.parametrize('kernel_area', [1, 9])
def test_costs_are_a_pure_increasing_function(kernel_area, groups, rank, training):
    work = workload(kernel_area=kernel_area, groups=groups, rank=rank, training=training)
    costs = path_costs(work)
    assert tuple(costs) == PATHS
    assert path_costs(work) == costs
    assert all(cost > 0 for cost in costs.values())
    for larger in (dict(batch=64), dict(out_pixels=56**2, in_pixels=56**2), dict(num_base_filters=128)):
        grown = path_costs(work._replace(**larger))
        assert all(grown[path] >= costs[path] for path in PATHS)
    assert all(path_costs(work._replace(batch=32))[path] > costs[path] for path in PATHS)


def test_training_keeps_little_more_than_a_convolution_does():
    # Of a batch size that MEASURED_PATHS does not list.
    stem = workload(
        batch=15, in_channels=3, kernel_area=49, out_pixels=112**2, in_pixels=224**2, rank=8, channels_last=True
    )
    costs, kept = path_costs(stem._replace(training=True)), kept_elements(stem)
    own = stem.batch * (3 * 224**2 + stem.out_channels * 112**2)
    assert kept['unfolded'] > own > max(kept['factored'], kept['materialised'])
    assert cheapest_path(stem._replace(training=True)) == min(('factored', 'materialised'), key=costs.__getitem__)


def test_kept_elements_are_those_that_autograd_saves():
    geometry = dict(in_channels=8, out_channels=16, kernel_size=3, padding=1, bias=False)
    work = workload(
        batch=2, in_channels=8, out_channels=16, num_base_filters=16, kernel_area=9, out_pixels=64, in_pixels=64, rank=4
    )
    x, codes = torch.randn(2, 8, 8, 8, requires_grad=True), torch.randn(2, 5)
    for path, expected in kept_elements(work).items():
        layer = FilterRepoConv(**geometry, code_dim=5, head='lowrank', rank=4, path=path)
        known = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
        known |= {x.untyped_storage().data_ptr(), codes.untyped_storage().data_ptr()}
        saved = {}

        def keep(tensor, known=known, saved=saved):
            if tensor.untyped_storage().data_ptr() not in known:
                saved[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with (
            conditioning_scope(Conditioning(layer, (codes,))),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            layer(x)
        # Besides, the head keeps matrices of the size of its weights.
        assert expected <= sum(saved.values()) <= expected + 1600


def test_training_costs_more_than_inference():
    inference, training = path_costs(workload()), path_costs(workload(training=True))
    assert all(training[path] > inference[path] for path in PATHS)


@pytest.mark.parametrize('work', MEASURED_PATHS)
def test_measured_paths_are_used_and_needed(work):
    costs = path_costs(work)
    assert cheapest_path(work) == MEASURED_PATHS[work]
    assert min(costs, key=costs.__getitem__) != MEASURED_PATHS[work]
