"""The network as a graph with an open batch size: torch.export, and ONNX made from it."""

import io

import torch
from torch import Tensor

from fg_plugin.export.agreement import describe, example_inputs, largest_errors
from fg_plugin.generator import FilterGenerator
from fg_plugin.inference import LoadedModel
from fg_plugin.inference.tasks import output_tensors
from fg_plugin.optional_packages import require

INPUT_NAME = 'images'


def program_bytes(loaded: LoadedModel) -> tuple[bytes, str]:
    """Return the network as a file of ``torch.export.save``, and what its check says.

    Raises:
        ExportMismatchError: If the saved and reloaded graph does not compute what the network computes.
    """
    file = io.BytesIO()
    torch.export.save(to_graph(loaded), file)
    graph = torch.export.load(io.BytesIO(file.getvalue())).module()
    return file.getvalue(), describe(largest_errors(loaded, lambda inputs: output_tensors(graph(inputs))))


def onnx_bytes(loaded: LoadedModel) -> tuple[bytes, str]:
    """Return the network as an ONNX file, and what its check in onnxruntime says.

    Raises:
        ModuleNotFoundError: Without the packages of the extra ``export``.
        ExportMismatchError: If onnxruntime does not compute what the network computes.
    """
    require('The export to ONNX', 'export', 'onnx', 'onnxscript', 'onnxruntime')
    # Imported here: other formats work without.
    import onnx
    import onnxruntime

    program = torch.onnx.export(
        to_graph(loaded), dynamo=True, verbose=False, input_names=[INPUT_NAME], output_names=list(loaded.output_names)
    )
    if program is None:
        raise RuntimeError('torch.onnx.export should return a program with dynamo=True, but got None.')
    onnx.checker.check_model(program.model_proto)
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])

    def run(inputs: Tensor) -> list[Tensor]:
        return [torch.from_numpy(out) for out in session.run(None, {INPUT_NAME: inputs.cpu().numpy()})]

    return content, describe(largest_errors(loaded, run))


def to_graph(loaded: LoadedModel) -> torch.export.ExportedProgram:
    """Export the network with an open batch size. The decoders, which only training needs, are removed from it."""
    for module in loaded.network.modules():
        if isinstance(module, FilterGenerator):
            module.remove_decoder_()
    inputs = example_inputs(loaded, 2)
    with torch.no_grad():
        return torch.export.export(loaded.network, (inputs,), dynamic_shapes=({0: torch.export.Dim('batch')},))
