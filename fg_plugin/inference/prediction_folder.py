"""Predictions as a folder: the drawn images, and one JSON file for all."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from fg_plugin.atomic_write import write_atomically, write_text_atomically
from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.predictions import ClassPrediction, SegmentationPrediction
from fg_plugin.inference.predictor import FailedImage, PredictedImage
from fg_plugin.visualization.prediction_image import colour_pixels, draw_prediction

JSON_NAME = 'predictions.json'


def write_predictions(
    loaded: LoadedModel, results: Iterable[PredictedImage | FailedImage], folder: Path, names: Sequence[PurePath]
) -> list[FailedImage]:
    """Write each drawn image as ``folder/<name>.png`` and, at the end, all predictions as ``predictions.json``.

    A segmentation has besides the number of each pixel's class, in grey values, as ``folder/<name>.mask.png``.

    Args:
        loaded: The model.
        results: What ``predict_files`` yields.
        folder: It is made if it does not exist.
        names: Of the drawn images, in the order of ``results``, see ``picture_names``.

    Returns:
        The files without a prediction, or whose picture cannot be written; the JSON file lists them as ``failed``.

    Raises:
        OSError: If the JSON file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    predicted: list[dict[str, Any]] = []
    failed: list[FailedImage] = []
    for result, name in zip(results, names, strict=True):
        if isinstance(result, FailedImage):
            failed.append(result)
            continue
        try:
            files = _write_pictures(result, folder, name)
        # Such as of a name that is too long with the ending of a picture.
        except OSError as error:
            failed.append(FailedImage(result.path, f'its picture cannot be written: {error}'))
            continue
        width, height = result.image.size
        facts = {'path': str(result.path), **files, 'width': width, 'height': height}
        predicted.append({**facts, **result.prediction.to_dict()})
    report = {
        'model': {'source': loaded.source, 'options': loaded.options, 'task': loaded.task},
        'predicted': predicted,
        'failed': [{'path': str(failure.path), 'error': failure.error} for failure in failed],
    }
    # In ASCII, as a path may hold bytes that are no text, which Python's UTF-8 refuses.
    write_text_atomically(folder / JSON_NAME, json.dumps(report, indent=2) + '\n')
    return failed


def _write_pictures(result: PredictedImage, folder: Path, name: PurePath) -> dict[str, str]:
    """Write the drawn image and, of a segmentation, the mask; return their paths below ``folder``."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    files = {'picture': name.as_posix()}
    # The mask first: where its longer name cannot be written, there is no picture either.
    if isinstance(result.prediction, SegmentationPrediction):
        mask = name.with_suffix('.mask.png')
        with write_atomically(folder / mask) as file:
            _to_grey(result.prediction.labels).save(file, 'PNG')
        files['mask'] = mask.as_posix()
    with write_atomically(folder / name) as file:
        draw(result).save(file, 'PNG')
    return files


def draw(result: PredictedImage) -> Any:
    """Return the image with its prediction."""
    if isinstance(result.prediction, ClassPrediction):
        caption = f'{result.prediction.name}  {result.prediction.probability:.1%}'
        return draw_prediction(result.image, caption)
    if isinstance(result.prediction, SegmentationPrediction):
        caption = ', '.join(
            f'{result.prediction.names[label]} {share:.0%}' for label, share in result.prediction.shares.items()
        )
        return draw_prediction(colour_pixels(result.image, result.prediction.labels), caption)
    return draw_prediction(result.image, points=result.prediction.landmarks)


def _to_grey(labels: np.ndarray) -> Image.Image:
    return Image.fromarray(labels.astype(np.uint8 if labels.max() < 256 else np.uint16))


def picture_names(files: Sequence[Path], roots: Sequence[Path]) -> list[PurePath]:
    """Return a name for the picture of each of ``files``: its path below the folder of ``roots`` that it came from.

    A name that is taken already gets a number.
    """
    folders = [root for root in roots if root.is_dir()]
    taken: set[PurePath] = set()
    names = []
    for file in files:
        root = next((folder for folder in folders if _lies_below(file, folder)), file.parent)
        relative = PurePath(file.relative_to(root))
        name, number = relative.with_name(f'{relative.name}.png'), 1
        while name in taken:
            number += 1
            name = relative.with_name(f'{relative.name}_{number}.png')
        taken.add(name)
        names.append(name)
    return names


def _lies_below(file: Path, folder: Path) -> bool:
    # '../file' is relative to '.', but not below it.
    return file.is_relative_to(folder) and '..' not in file.relative_to(folder).parts
