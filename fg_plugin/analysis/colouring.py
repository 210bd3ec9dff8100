"""What tells samples apart in a picture: their classes, the tilt of their landmarks, or another number."""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from fg_plugin.analysis.samples import Samples
from fg_plugin.inference import LoadedModel
from fg_plugin.inference.predictions import class_name
from fg_plugin.inference.tasks import predicted_classes
from fg_plugin.visualization.embedding_grid import Colouring

_MAX_CLASSES = 10


def colour_samples(loaded: LoadedModel, samples: Samples, answers: Tensor) -> Colouring:
    """Colour by the true class, or else by the predicted one.

    Landmarks are coloured by the angle of the line from first to second, segmentations by the share of the commonest
    class, and features by their first principal component.

    Args:
        loaded: The model.
        samples: The images.
        answers: Of the model, see ``tasks.answers``.
    """
    if loaded.task == 'landmarks':
        points = answers if samples.landmarks is None else samples.landmarks
        what = 'predicted' if samples.landmarks is None else 'true'
        if points.shape[1] < 2:
            return Colouring(f'x of the {what} landmark', points[:, 0, 0].numpy(), None)
        dx, dy = (points[:, 1] - points[:, 0]).double().unbind(1)
        angles = torch.rad2deg(torch.atan2(dy, dx)).numpy()
        return Colouring(f'angle of the line from landmark 1 to 2 ({what}, degrees)', angles, None)
    if loaded.task == 'segmentation':
        commonest = int(answers.flatten().long().bincount().argmax())
        shares = (answers == commonest).double().flatten(1).mean(1).numpy()
        return Colouring(f'share of {class_name(loaded, commonest)} (predicted)', shares, None)
    if loaded.task == 'features':
        centred = answers.double() - answers.double().mean(0)
        component = torch.linalg.svd(centred, full_matrices=False)[0][:, 0]
        return Colouring('first principal component of the features', component.numpy(), None)
    labels = predicted_classes(answers) if samples.labels is None else samples.labels
    frequent = sorted(label for label, _ in Counter(labels.tolist()).most_common(_MAX_CLASSES))
    names = [class_name(loaded, label) for label in frequent]
    position = {label: index for index, label in enumerate(frequent)}
    groups = np.array([position.get(label, len(frequent)) for label in labels.tolist()])
    if (groups == len(frequent)).any():
        names.append('other classes')
    return Colouring('predicted class' if samples.labels is None else 'class', groups, names)
