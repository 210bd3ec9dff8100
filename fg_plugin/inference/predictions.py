"""What a model says about one image."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from fg_plugin.inference.loaded_model import LoadedModel


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
        landmarks: Points (x, y) in pixels of the image file, with the centre of its top-left pixel at (0, 0).
    """

    landmarks: list[list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds of it."""
        return asdict(self)


Prediction = ClassPrediction | LandmarkPrediction


def decode_predictions(
    loaded: LoadedModel, outputs: tuple[Tensor, ...], image_sizes: list[tuple[int, int]]
) -> list[Prediction]:
    """Turn the outputs for a batch into one prediction an image.

    Args:
        loaded: The model.
        outputs: As ``loaded.outputs`` returns them.
        image_sizes: ``(width, height)`` of each image file.
    """
    if loaded.task == 'landmarks':
        points = outputs[1].double().cpu()
        height, width = loaded.input_size[1:]
        return [
            LandmarkPrediction(_to_image(point, (width, height), size).tolist())
            for point, size in zip(points, image_sizes, strict=True)
        ]
    probabilities, labels = outputs[0].float().softmax(1).max(1)
    return [
        ClassPrediction(label, class_name(loaded, label), probability)
        for label, probability in zip(labels.tolist(), probabilities.tolist(), strict=True)
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


def _to_image(points: Tensor, input_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    # Resizing maps the edges of the image to those of the input; pixel centres lie half a pixel inside.
    scale = points.new_tensor(image_size) / points.new_tensor(input_size)
    return (points + 0.5) * scale - 0.5
