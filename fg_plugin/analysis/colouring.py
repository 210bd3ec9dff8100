"""What tells samples apart in a picture: their classes, or the tilt of their landmarks."""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from fg_plugin.analysis.samples import Samples
from fg_plugin.inference import LoadedModel
from fg_plugin.inference.predictions import class_name
from fg_plugin.visualization.embedding_grid import Colouring

_MAX_CLASSES = 10


def colour_samples(loaded: LoadedModel, samples: Samples, outputs: Tensor) -> Colouring:
    """Colour by the true class, or else by the predicted one; landmarks by the angle of the line from first to second.

    Args:
        loaded: The model.
        samples: The images.
        outputs: Logits ``(N, num_classes)`` or landmarks ``(N, K, 2)``.
    """
    if loaded.task == 'landmarks':
        points = outputs if samples.landmarks is None else samples.landmarks
        what = 'predicted' if samples.landmarks is None else 'true'
        if points.shape[1] < 2:
            return Colouring(f'x of the {what} landmark', points[:, 0, 0].numpy(), None)
        dx, dy = (points[:, 1] - points[:, 0]).double().unbind(1)
        angles = torch.rad2deg(torch.atan2(dy, dx)).numpy()
        return Colouring(f'angle of the line from landmark 1 to 2 ({what}, degrees)', angles, None)
    labels = outputs.argmax(1) if samples.labels is None else samples.labels
    frequent = sorted(label for label, _ in Counter(labels.tolist()).most_common(_MAX_CLASSES))
    names = [class_name(loaded, label) for label in frequent]
    position = {label: index for index, label in enumerate(frequent)}
    groups = np.array([position.get(label, len(frequent)) for label in labels.tolist()])
    if (groups == len(frequent)).any():
        names.append('other classes')
    return Colouring('predicted class' if samples.labels is None else 'class', groups, names)
