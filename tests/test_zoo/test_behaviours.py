"""What timm's own tests ask of its networks, of small ones with generated filters: one or more of each family."""

import copy

import pytest
import torch
from test_zoo.networks import NETWORKS, assert_equal, copy_of, differ, images
from timm.models import model_parameters
from torch.utils._pytree import tree_leaves

from fg_plugin import FilterRepoConv
from fg_plugin.generated_model import GENERATOR, GeneratedModel

WITHOUT_CHECKPOINTING = (
    'coat_lite_tiny',
    'crossvit_tiny_240',
    'cs3darknet_focus_s',
    'dla46x_c',
    'hrnet_w18_small',
    'pit_ti_224',
    'twins_svt_small',
)


def gradients(model, batches):
    """Gradients by parameter after one backward through a forward of each batch."""
    torch.manual_seed(0)
    loss = sum(leaf.square().mean() for batch in batches for leaf in tree_leaves(model(batch)))
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize('name', NETWORKS)
def test_forward(name):
    model, x = copy_of(name), images(name)
    with torch.no_grad():
        out = model(x)
        alone = torch.cat([model(image[None]) for image in x])
        with model.conditioned_on(x.flip(0)):
            swapped = model(x)
    assert out.shape == (2, model.pretrained_cfg['num_classes'])
    assert out.isfinite().all()
    assert_equal(out, alone)
    assert differ(out, swapped) == [True]


@pytest.mark.parametrize('name', NETWORKS)
def test_gradient_checkpointing(name):
    model, batches = copy_of(name), [images(name), images(name, seed=1)]
    if name in WITHOUT_CHECKPOINTING:
        with pytest.raises(AssertionError, match='not supported'):
            model.set_grad_checkpointing()
        return
    out = model(batches[0])
    model.train()
    expected = gradients(copy.deepcopy(model), batches)
    model.set_grad_checkpointing()
    actual = gradients(copy.deepcopy(model), batches)
    assert actual.keys() == expected.keys()
    for key, gradient in expected.items():
        assert torch.allclose(actual[key], gradient, rtol=1e-6, atol=1e-8), key
    assert_equal(model.eval()(batches[0]), out)


@pytest.mark.parametrize('name', NETWORKS)
def test_backward_reaches_every_parameter(name):
    model = copy_of(name).train()
    model.reset_classifier(42)
    model.double()
    out = tree_leaves(model(images(name)))
    assert {leaf.shape for leaf in out} == {(2, 42)}
    torch.cat(out).mean().backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    generated = [key for key, parameter in model.named_parameters() if key.startswith(GENERATOR)]
    assert not [key for key in generated if not model.get_parameter(key).grad.any()]


@pytest.mark.parametrize('name', NETWORKS)
def test_forward_intermediates(name):
    model, x = copy_of(name), images(name)
    with torch.no_grad():
        final, intermediates = model.forward_intermediates(x)
        assert_equal(final, model.forward_features(x))
        assert_equal(model.forward_head(final), model(x))
        assert len(intermediates) == len(model.feature_info)
        alone = [model.forward_intermediates(image[None], intermediates_only=True) for image in x]
        assert_equal(intermediates, [torch.cat(pair) for pair in zip(*alone, strict=True)])
        chosen = model.forward_intermediates(x, indices=[0, 2], intermediates_only=True)
        assert_equal(chosen, [intermediates[0], intermediates[2]])


@pytest.mark.parametrize('name', NETWORKS)
def test_head_and_classifier(name):
    model, x = copy_of(name), images(name)
    cfg = model.pretrained_cfg
    assert isinstance(model, GeneratedModel)
    assert model.num_classes == cfg['num_classes']
    classifiers = [cfg['classifier']] if isinstance(cfg['classifier'], str) else cfg['classifier']
    first_convs = [cfg['first_conv']] if isinstance(cfg['first_conv'], str) else cfg['first_conv']
    assert {f'{key}.weight' for key in (*classifiers, *first_convs)} <= model.state_dict().keys()
    layers = [layer for layer in model.modules() if isinstance(layer, FilterRepoConv)]
    with torch.no_grad():
        features = model.forward_features(x)
        pooled = model.forward_head(features, pre_logits=True)
        assert_equal(model.forward_head(features), model(x))
        assert pooled.shape == (2, model.head_hidden_size)
        model.reset_classifier(0)
        assert model.num_classes == 0
        assert_equal(model(x), pooled)
        model.reset_classifier(7)
        assert model.double()(x).shape == (2, 7)
    parts = model.get_classifier() if isinstance(model.get_classifier(), tuple) else [model.get_classifier()]
    assert all(any(len(parameter) == 7 for parameter in part.parameters()) for part in parts)
    assert set(parts) <= set(model.modules())
    assert [layer for layer in model.modules() if isinstance(layer, FilterRepoConv)] == layers


def test_adaptive_gradient_clipping_spares_the_classifier():
    """timm leaves the last two parameters out of it."""
    model = copy_of('test_nfnet')
    clipped = {id(parameter) for parameter in model_parameters(model, exclude_head=True)}
    spared = {name for name, parameter in model.named_parameters() if id(parameter) not in clipped}
    assert spared == {'head.fc.weight', 'head.fc.bias'}
