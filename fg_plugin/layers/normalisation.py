"""The normalisations of the autoencoder and the neck."""

from torch import nn


def normalisation(name: str, channels: int) -> nn.Module:
    """Build a normalisation of ``channels`` maps.

    ``'batch'`` is the paper's. ``'group'`` normalises over all maps of one image, so that an image's codes do not
    depend on its batch in training either, and a batch may hold a single image.

    Raises:
        ValueError: For another name.
    """
    if name == 'batch':
        return nn.BatchNorm2d(channels)
    if name == 'group':
        return nn.GroupNorm(1, channels)
    raise ValueError(f"norm should be 'batch' or 'group', but got {name!r}.")
