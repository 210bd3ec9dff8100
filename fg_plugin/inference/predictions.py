"""What a model says about one image."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.tasks import pixel_classes, predicted_classes


@dataclass
class ClassPrediction:
    """A class.

    Attributes:
        label: Its number.
        name: Its name, or its number as a text where the names are unknown.
        probability: In [0, 1].
    """

    label: int
    name: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds of it."""
        return asdict(self)


@dataclass
class LandmarkPrediction:
    """Landmarks.

    Attributes:
        landmarks: Points (x, y) in pixels of the image, turned as its EXIF data says, with the centre of its top-left
            pixel at (0, 0).
    """

    landmarks: list[list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds of it."""
        return asdict(self)


@dataclass
class SegmentationPrediction:
    """A class for each pixel.

    Attributes:
        labels: ``(H, W)``, the number of each pixel's class, for the image turned as its EXIF data says.
        names: Names of the predicted classes by number.
        shares: Of the pixels, by number of class, the largest first.
    """

    labels: np.ndarray
    names: dict[int, str]
    shares: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds of it: not the pixels."""
        shares = [{'label': label, 'name': self.names[label], 'share': share} for label, share in self.shares.items()]
        return {'classes': shares}


Prediction = ClassPrediction | LandmarkPrediction | SegmentationPrediction


def check_predicts(loaded: LoadedModel) -> None:
    """Check that the outputs of a model say something about an image.

    Raises:
        ValueError: If it gives features.
    """
    if loaded.task == 'features':
        raise ValueError(
            f'The model should be a classifier, a landmark detector or a segmentor to predict something, but '
            f'{loaded.source} returns features: {", ".join(loaded.output_names)}.'
        )


def decode_predictions(
    loaded: LoadedModel, outputs: tuple[Tensor, ...], image_sizes: list[tuple[int, int]]
) -> list[Prediction]:
    """Turn the outputs for a batch into one prediction an image.

    Args:
        loaded: The model.
        outputs: As ``loaded.outputs`` returns them.
        image_sizes: ``(width, height)`` of each image, turned as its EXIF data says.
    """
    if loaded.task == 'segmentation':
        # In the size of the input, as a file may be too large for the logits of all classes.
        logits = F.interpolate(outputs[0].float(), loaded.input_size[1:], mode='bilinear', align_corners=False)
        labels = pixel_classes(logits).cpu()
        return [_segmentation(loaded, each, size) for each, size in zip(labels, image_sizes, strict=True)]
    if loaded.task == 'landmarks':
        points = outputs[1].double().cpu()
        height, width = loaded.input_size[1:]
        return [
            LandmarkPrediction(_to_image(point, (width, height), size).tolist())
            for point, size in zip(points, image_sizes, strict=True)
        ]
    logits = outputs[0].float()
    # A single logit is that of class 1; the sigmoid of its absolute value is the larger of the two probabilities.
    probabilities = logits.softmax(1).amax(1) if logits.shape[1] > 1 else logits[:, 0].abs().sigmoid()
    classes = predicted_classes(logits)
    return [
        ClassPrediction(label, class_name(loaded, label), probability)
        for label, probability in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]


def class_name(loaded: LoadedModel, label: int) -> str:
    """Return the name of a class, or its number where the names are unknown.

    Raises:
        ValueError: If there are fewer names than classes.
    """
    if loaded.classes is None:
        return str(label)
    if label >= len(loaded.classes):
        raise ValueError(f'classes should name each class, but there are {len(loaded.classes)} names and class {label}')
    return str(loaded.classes[label])


def _segmentation(loaded: LoadedModel, labels: Tensor, image_size: tuple[int, int]) -> SegmentationPrediction:
    width, height = image_size
    pixels = F.interpolate(labels[None, None].float(), (height, width), mode='nearest-exact')[0, 0].short().numpy()
    numbers, counts = np.unique(pixels, return_counts=True)
    order = np.argsort(-counts, kind='stable')
    shares = {int(numbers[index]): float(counts[index] / pixels.size) for index in order}
    return SegmentationPrediction(pixels, {label: class_name(loaded, label) for label in shares}, shares)


def _to_image(points: Tensor, input_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    # Resizing maps the edges of the image to those of the input; pixel centres lie half a pixel inside.
    scale = points.new_tensor(image_size) / points.new_tensor(input_size)
    return (points + 0.5) * scale - 0.5
