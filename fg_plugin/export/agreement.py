"""Whether an exported network computes what the eager one computes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from fg_plugin.inference import LoadedModel
from fg_plugin.inference.image_files import FILE_CHANNELS

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
    images = [_enlarged(pixels, (height, width)) for pixels in coarse]
    inputs = [loaded.transform(image) for image in images]
    return torch.stack(inputs).to(loaded.device)


def _enlarged(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image | Tensor:
    """Return pixels ``(h, w, C)`` as an image of ``size`` (height, width), or in [0, 1] as a tensor (C, H, W)."""
    # PIL has no images of five or more channels, and none of two or four without transparency.
    if pixels.shape[2] not in FILE_CHANNELS:
        planes = torch.from_numpy(pixels).permute(2, 0, 1)
        return functional.resize(planes, list(size), InterpolationMode.BICUBIC).float() / 255
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels)
    return image.resize(size[::-1], Image.Resampling.BICUBIC)


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
