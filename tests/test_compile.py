"""torch.compile of converted networks."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.utils import counters

import fg_plugin
from fg_plugin.layers import FilterRepoConv


@pytest.fixture(autouse=True)
def fresh_dynamo():
    """Count graphs from zero, and leave no compiled code behind."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def perturb_heads_(model: nn.Module) -> nn.Module:
    """Let the filters of the images differ, as they do after some training."""
    for module in model.modules():
        if isinstance(module, FilterRepoConv):
            for parameter in module.coefficient_head.parameters():
                with torch.no_grad():
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


class Host(nn.Module):
    """One convolution of each kind that takes another path in a graph."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(self.dense(x).relu()).relu()).mean((2, 3))


def converted_host(**options) -> nn.Module:
    torch.manual_seed(0)
    model = Host()
    small = dict(encoder=((4, 4), (4, 2)), image_size=32, input_size=(3, 32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    fg_plugin.convert_(model, **small, **options)
    return perturb_heads_(model)


def batch_of(size: int, side: int) -> torch.Tensor:
    """Return images whose batch size the compiler is told to keep open."""
    images = torch.rand(size, 3, side, side)
    torch._dynamo.mark_dynamic(images, 0)
    return images


def train_step(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    net.zero_grad()
    loss = F.cross_entropy(net(images), torch.arange(len(images)) % 4) + fg_plugin.reconstruction_loss(net)
    loss.backward()
    return loss.detach()


def assert_trains_alike(compiled: nn.Module, eager: nn.Module, images: torch.Tensor) -> None:
    torch.testing.assert_close(train_step(compiled, images), train_step(eager, images), rtol=1e-5, atol=1e-6)
    for (name, ours), theirs in zip(compiled.named_parameters(), eager.parameters(), strict=True):
        # Relative to the largest gradient of the parameter: single entries may vanish.
        error = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max().clamp_min(1e-6)
        assert error < 1e-4, f'{name}: {error:.1e}'


@pytest.mark.parametrize(('head', 'reconstruction_weight'), [('lowrank', 1.0), ('residual', 1.0), ('full', 0.0)])
def test_one_graph_serves_every_batch_size(head, reconstruction_weight):
    eager = converted_host(head=head, reconstruction_weight=reconstruction_weight)
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, backend='aot_eager')
    for size in (2, 3, 5):
        assert_trains_alike(compiled, eager, batch_of(size, 32))
    assert counters['stats']['unique_graphs'] == 1


@torch.no_grad()
def test_a_fixed_batch_size_is_decomposed():
    """By a backend that predicts strides, and by an export: the default neck's maps are of several sizes."""
    torch.manual_seed(0)
    model = Host().eval()
    fg_plugin.convert_(model, input_size=(3, 64, 64), mean=(0, 0, 0), std=(1, 1, 1))
    images = torch.rand(2, 3, 64, 64)
    expected = perturb_heads_(model)(images)
    exported = torch.export.export(model, (images,)).run_decompositions().module()
    for graph in (exported, torch.compile(model, backend='aot_eager')):
        torch.testing.assert_close(graph(images), expected, rtol=1e-5, atol=1e-6)


def few_layers(name: str, **options) -> nn.Module:
    """Return a small mobile network of which few convolutions are converted, so that tracing it takes seconds."""
    torch.manual_seed(0)
    model = timm.create_model(name, fg_include=['conv_stem', 'blocks.1.*'], **options)
    return perturb_heads_(model.eval())


@pytest.mark.slow
@torch.no_grad()
def test_features_only_is_one_graph():
    model = few_layers('fg_mobilenetv3_small_050', features_only=True)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    for size in (2, 3):
        images = batch_of(size, 64)
        for ours, theirs in zip(compiled(images), model(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert counters['stats']['unique_graphs'] == 1


@pytest.mark.slow
@torch.no_grad()
def test_features_and_head_called_one_after_the_other_compile_inside_a_conditioning():
    torch.manual_seed(0)
    model = timm.create_model('fg_mobilenetv3_small_050', fg_include=['conv_stem', 'conv_head']).eval()
    perturb_heads_(model)

    def without_conditioning(images):
        return model.forward_head(model.forward_features(images))

    def conditioned(images):
        with model.conditioned_on(images):
            return without_conditioning(images)

    # In eager mode, the features remember their filters; a graph has no such memory.
    expected = without_conditioning(batch_of(2, 64).fill_(0.5))
    out = torch.compile(conditioned, fullgraph=True, backend='aot_eager')(batch_of(2, 64).fill_(0.5))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="'conv_head' was called without conditioning"):
        torch.compile(without_conditioning, fullgraph=True, backend='aot_eager')(batch_of(2, 64))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize('reconstruction_weight', [0.0, 1.0])
def test_a_resnet_trains_in_one_graph_of_inductor(reconstruction_weight):
    torch.manual_seed(0)
    eager = perturb_heads_(
        timm.create_model('fg_resnet18', num_classes=4, fg_reconstruction_weight=reconstruction_weight)
    )
    # The images of this file are in [0, 1].
    eager.fg_generator.input_mean.zero_()
    eager.fg_generator.input_std.fill_(1)
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True)
    for size in (4, 6):
        assert_trains_alike(compiled, eager, batch_of(size, 96))
    assert counters['stats']['unique_graphs'] == 1
    compiled.eval()
    eager.eval()
    images = batch_of(5, 96)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), eager(images), rtol=1e-4, atol=1e-5)
