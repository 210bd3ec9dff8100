"""The baseline network of the MNIST experiment."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class MNISTNet(BaseModule):
    """Two Conv+ReLU+MaxPool of five filters each (Table 4, without its fully connected layer).

    Args:
        in_channels: Channels of the image.
        channels: Filters of each convolution.
        init_cfg: As in ``BaseModule``.
    """

    def __init__(self, in_channels: int = 1, channels: int = 5, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.conv1 = nn.Conv2d(in_channels, channels, 5)
        self.conv2 = nn.Conv2d(channels, channels, 5)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images ``(B, 1, 28, 28)`` to features ``(B, 5, 4, 4)``.

        Raises:
            ValueError: For an image smaller than 16x16.
        """
        if min(x.shape[2:]) < 16:
            raise ValueError(f'The image should be at least 16x16 (28x28 in MNIST), but got {tuple(x.shape[2:])}.')
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return (F.max_pool2d(F.relu(self.conv2(x)), 2),)
