"""Image files as inputs of a model."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fg_plugin.inference.image_files import UnreadableImageError, check_reads_files, read_image
from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.predictor import FailedImage


def input_batches(
    loaded: LoadedModel, paths: Sequence[Path], batch_size: int = 32
) -> tuple[list[Tensor], list[FailedImage]]:
    """Read ``paths`` as batches of inputs ``(B, C, H, W)``, and tell which files cannot be read.

    Raises:
        ValueError: If no file can be read, ``batch_size`` is not positive, or the model takes neither grey images nor
            RGB.
    """
    check_reads_files(loaded)
    if batch_size < 1:
        raise ValueError(f'batch_size should be at least 1, but got {batch_size}')
    inputs, failed = [], []
    for path in paths:
        try:
            inputs.append(loaded.transform(read_image(path, loaded.input_size[0])))
        except UnreadableImageError as error:
            failed.append(FailedImage(path, str(error)))
    if not inputs:
        reason = f'of {failed[0].path}: {failed[0].error}' if failed else 'got no path'
        raise ValueError(f'There should be at least one readable image, but {reason}')
    batches = []
    # All images are in memory once: what has become part of a batch is let go.
    while inputs:
        batches.append(torch.stack(inputs[:batch_size]).to(loaded.device))
        del inputs[:batch_size]
    return batches, failed
