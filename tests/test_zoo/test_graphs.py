"""Converted networks traced by torch.fx: the codes are a node of the graph."""

import copy
import pickle
import warnings

import pytest
import timm
import torch
from perturbed import perturb_heads_
from test_zoo.networks import assert_equal, copy_of, images, make
from timm.layers import create_feature_extractor, get_graph_node_names
from timm.models import FeatureGraphNet

import fg_plugin
from fg_plugin.conditioning import current_conditioning


def test_symbolic_trace():
    model, x = copy_of('test_resnet'), images('test_resnet', batch=3)
    graph = torch.fx.symbolic_trace(model)
    assert_equal(graph(x), model(x))
    assert_equal(torch.cat([graph(image[None]) for image in x]), model(x))
    nodes = {node.target for node in graph.graph.nodes}
    assert {record.name for record in model.fg_conversion.records if record.level is not None} <= nodes
    assert 'fg_generator' in nodes
    assert current_conditioning() is None


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda graph: pickle.loads(pickle.dumps(graph))])
def test_copies_of_a_graph(copied):
    model, x = copy_of('test_resnet'), images('test_resnet', batch=3)
    assert_equal(copied(torch.fx.symbolic_trace(model))(x), model(x))
    with torch.no_grad(), model.conditioned_on(x[:1]):
        graph, expected = torch.fx.symbolic_trace(model), model(x)
    assert_equal(copied(graph)(x), expected)
    extractor = create_feature_extractor(model, ['layer1', 'layer2'])
    # torchvision's copies are in training mode.
    for name, features in copied(extractor).eval()(x).items():
        assert_equal(features, extractor(x)[name])


class RunsItsChildren(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.act, self.c2 = torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


def test_a_network_that_runs_its_children_runs_no_generator_in_a_graph():
    model, x = RunsItsChildren(), torch.rand(2, 3, 32, 32)
    fg_plugin.convert_(model, mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 32, 32))
    perturb_heads_(model)
    assert_equal(torch.fx.symbolic_trace(model)(x), model(x))


def slowly(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def extractor_of_last_node(model):
    return create_feature_extractor(model, [get_graph_node_names(model)[1][-1]])


@pytest.mark.parametrize(
    'name',
    [
        *('test_resnet', 'test_vit', 'test_nfnet', 'tf_mobilenetv3_small_minimal_100'),
        *slowly('coat_lite_tiny', 'edgenext_xx_small', 'efficientvit_m0', 'ghostnet_050', 'levit_conv_128s'),
    ],
)
def test_feature_extractors(name):
    model, x = copy_of(name), images(name)
    expected = model(x)
    extractor = extractor_of_last_node(model).eval()
    assert_equal(list(extractor(x).values()), [expected])


def test_features_of_a_converted_network():
    model, x = copy_of('test_resnet'), images('test_resnet')
    features = FeatureGraphNet(model, out_indices=(1, 3)).eval()(x)
    assert_equal(features, model.forward_intermediates(x, indices=[1, 3], intermediates_only=True))


def test_gradients_and_the_reconstruction_loss():
    model = make('test_resnet', fg_reconstruction_weight=1.0)
    x = (torch.rand(2, 3, 64, 64).double() - model.fg_generator.input_mean) / model.fg_generator.input_std
    graph = extractor_of_last_node(model).train()
    loss = next(iter(graph(x).values())).mean()
    (loss + fg_plugin.reconstruction_loss(graph)).backward()
    assert not [key for key, parameter in graph.named_parameters() if parameter.grad is None]


def test_filters_of_another_image_are_constants_of_the_graph():
    model, x = copy_of('test_resnet'), images('test_resnet', batch=3)
    with torch.no_grad(), model.conditioned_on(x[:1]):
        expected, graph = model(x), torch.fx.symbolic_trace(model)
    assert_equal(graph(x), expected)
    assert 'fg_generator' not in {node.target for node in graph.graph.nodes}


def test_a_graph_is_traced_again():
    model, x = copy_of('test_resnet'), images('test_resnet')
    graph = torch.fx.symbolic_trace(torch.fx.symbolic_trace(model))
    assert_equal(graph(x), model(x))
    assert [node.target for node in graph.graph.nodes].count('fg_generator') == 1


def test_unused_modules_of_a_graph_are_no_parts_of_its_layers():
    model, x = copy_of('test_resnet'), images('test_resnet')
    expected = model(x)
    graph = torch.fx.symbolic_trace(model)
    graph.delete_all_unused_submodules()
    assert_equal(graph(x), expected)
    assert_equal(model(x), expected)


def test_a_graph_cannot_be_converted():
    graph = torch.fx.symbolic_trace(timm.create_model('test_resnet'))
    with pytest.raises(ValueError, match=r'but got: GraphModule\. Convert the network first'):
        fg_plugin.convert_(graph)


def test_a_trace_of_torch_jit_is_the_same_with_gradients_and_without():
    # The tracer's own check runs without.
    model, x = copy_of('test_resnet'), images('test_resnet', batch=3)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(model, x[:2])
    assert_equal(traced(x), model(x))
