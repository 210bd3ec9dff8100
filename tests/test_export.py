"""torch.export and ONNX of converted networks, with a batch size that is open."""

import io
from typing import Any

import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

import fg_plugin  # noqa: F401
from fg_plugin.layers import FilterRepoConv

BATCH_SIZES = (1, 3, 8)

# 64 is the side of the thumbnail that the generator sees, which is then not resized.
FAST = [
    ('fg_resnet18', 64, dict()),
    ('fg_mobilenetv3_small_100', 48, dict(fg_include=['blocks.0.*', 'blocks.1.*'])),
    # Its own layers give maps in channels_last.
    ('fg_convnext_atto', 64, dict(fg_include=['stages.1.downsample.*', 'stages.1.blocks.0.*'])),
]
SLOW = [
    (name, 224, dict())
    for name in ('fg_resnet18', 'fg_mobilenetv3_small_100', 'fg_convnext_atto', 'fg_efficientnet_b0')
]
CASES = [*FAST, *(pytest.param(*case, marks=[pytest.mark.slow, pytest.mark.timeout(900)]) for case in SLOW)]


def create(name: str, **options: Any) -> nn.Module:
    """Return a network with a decoder, whose filters differ between images as they do after some training."""
    torch.manual_seed(0)
    model = timm.create_model(name, fg_reconstruction_weight=1.0, **options).eval()
    for module in model.modules():
        if isinstance(module, FilterRepoConv):
            for parameter in module.coefficient_head.parameters():
                with torch.no_grad():
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def relative_error(out: Tensor, expected: Tensor) -> float:
    return ((out - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(('name', 'side', 'options'), CASES)
@torch.no_grad()
def test_exported_networks_equal_eager_ones_at_every_batch_size(name, side, options):
    model = create(name, **options)
    images = torch.randn(max(BATCH_SIZES), 3, side, side)
    expected = model(images)
    # Otherwise a graph that took one image's filters for all would pass.
    assert relative_error(expected, expected[:1].expand_as(expected)) > 1e-2

    exported = torch.export.export(model, (images[:2],), dynamic_shapes=({0: torch.export.Dim('batch')},))
    unused = decoder_inputs(exported.graph_signature)
    decoder = [node for node in exported.graph.nodes if node.op == 'placeholder' and node.name in unused]
    assert decoder
    assert not any(node.users for node in decoder)
    graph = exported.module()
    for size in BATCH_SIZES:
        assert relative_error(graph(images[:size]), expected[:size]) < 1e-4

    program = torch.onnx.export(exported, dynamo=True, verbose=False)
    file = io.BytesIO()
    program.save(file)
    onnx_model = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(onnx_model)
    assert not any('decoder' in tensor.name for tensor in onnx_model.graph.initializer)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    (graph_input,) = session.get_inputs()
    for size in BATCH_SIZES:
        (out,) = session.run(None, {graph_input.name: images[:size].numpy()})
        assert relative_error(torch.from_numpy(out), expected[:size]) < 1e-4


def decoder_inputs(signature: torch.export.ExportGraphSignature) -> set[str]:
    """Return the inputs that torch.export makes of the decoder's parameters; it keeps those without a use."""
    parameters = signature.inputs_to_parameters
    return {graph_input for graph_input, parameter in parameters.items() if '.decoder.' in parameter}
