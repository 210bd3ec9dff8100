"""Whether an exported network computes what the eager one computes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fg_plugin.inference import LoadedModel

BATCH_SIZES = (1, 3, 8)

# Relative to the largest value of an output: float32 in another order of operations differs by about 1e-6.
TOLERANCE = 1e-4

Errors = dict[str, dict[int, tuple[float, float]]]


class ExportMismatchError(ValueError):
    """An exported network does not compute what the eager one computes."""


def example_inputs(loaded: LoadedModel, count: int, seed: int = 0) -> Tensor:
    """Return inputs ``(count, C, H, W)``: images of random coarse patches, as the model's transform prepares them."""
    rng = np.random.default_rng(seed)
    channels, height, width = loaded.input_size
    coarse = rng.integers(0, 256, (count, 8, 8, channels), dtype=np.uint8)
    images = [Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels) for pixels in coarse]
    inputs = [loaded.transform(image.resize((width, height), Image.Resampling.BICUBIC)) for image in images]
    return torch.stack(inputs).to(loaded.device)


@torch.no_grad()
def largest_errors(loaded: LoadedModel, exported: Callable[[Tensor], Sequence[Tensor]]) -> Errors:
    """Compare ``exported`` with the eager network at batches of 1, 3 and 8 images.

    Args:
        loaded: The eager network.
        exported: From inputs to the outputs in their order.

    Returns:
        For each output, the largest absolute error at each batch size, beside the largest value.

    Raises:
        ExportMismatchError: If an output has another shape, or an error is larger than float32 explains.
    """
    inputs = example_inputs(loaded, max(BATCH_SIZES))
    errors: Errors = {name: {} for name in loaded.output_names}
    for batch in BATCH_SIZES:
        expected = loaded.outputs(inputs[:batch])
        for name, out, value in zip(errors, exported(inputs[:batch]), expected, strict=True):
            if out.shape != value.shape:
                raise ExportMismatchError(
                    f'{name} of the exported network should have shape {tuple(value.shape)}, but got '
                    f'{tuple(out.shape)}.'
                )
            error, largest = (out.to(value) - value).abs().max().item(), value.abs().max().item()
            # A comparison with NaN is false.
            if not error <= TOLERANCE * largest:
                raise ExportMismatchError(
                    f'{name} of the exported network should equal those of the eager one, but for {batch} images they '
                    f'differ by {error:.3g} where the largest value is {largest:.3g}.'
                )
            errors[name][batch] = (error, largest)
    return errors


def describe(errors: Errors) -> str:
    """Return the errors as one line."""
    parts = []
    for name, by_batch in errors.items():
        each = ', '.join(f'{error:.1e} of {largest:.2g} (B={batch})' for batch, (error, largest) in by_batch.items())
        parts.append(f'{name} {each}')
    return f'largest error against the eager network, of the largest value: {"; ".join(parts)}'
