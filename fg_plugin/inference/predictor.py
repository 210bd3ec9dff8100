"""Predictions for image files, in batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from fg_plugin.inference.image_files import UnreadableImageError, check_reads_files, read_image
from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.predictions import Prediction, check_predicts, decode_predictions


class PredictedImage(NamedTuple):
    """A file with its prediction.

    Attributes:
        path: The file.
        image: What it holds, turned as its EXIF data says.
        prediction: What the model says.
    """

    path: Path
    image: Image.Image
    prediction: Prediction


class FailedImage(NamedTuple):
    """A file without a prediction.

    Attributes:
        path: The file.
        error: The reason.
    """

    path: Path
    error: str


def predict_files(
    loaded: LoadedModel, paths: Sequence[Path], batch_size: int = 32
) -> Iterator[PredictedImage | FailedImage]:
    """Predict for each of ``paths``, in their order. A file that cannot be read is reported, and the rest goes on.

    Args:
        loaded: The model.
        paths: The files.
        batch_size: Images that are decoded and predicted together.

    Raises:
        ValueError: If ``batch_size`` is not positive, or the model gives features or takes neither grey images nor RGB.
    """
    check_predicts(loaded)
    check_reads_files(loaded)
    if batch_size < 1:
        raise ValueError(f'batch_size should be at least 1, but got {batch_size}')
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    return (result for batch in batches for result in _predict_batch(loaded, batch))


@torch.no_grad()
def _predict_batch(loaded: LoadedModel, paths: Sequence[Path]) -> list[PredictedImage | FailedImage]:
    images: dict[Path, Image.Image] = {}
    results: dict[Path, PredictedImage | FailedImage] = {}
    for path in paths:
        try:
            images[path] = read_image(path, loaded.input_size[0])
        except UnreadableImageError as error:
            results[path] = FailedImage(path, str(error))
    if images:
        inputs = torch.stack([loaded.transform(image) for image in images.values()]).to(loaded.device)
        outputs = loaded.outputs(inputs)
        finite = [all(bool(output[index].isfinite().all()) for output in outputs) for index in range(len(inputs))]
        predictions = decode_predictions(loaded, outputs, [image.size for image in images.values()])
        for (path, image), prediction, is_finite in zip(images.items(), predictions, finite, strict=True):
            if is_finite:
                results[path] = PredictedImage(path, image, prediction)
            else:
                results[path] = FailedImage(path, 'the output of the model is not finite')
    return [results[path] for path in paths]
