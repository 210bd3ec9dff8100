"""Models of a backbone whose output is neither classes of images nor landmarks."""

from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ToyFeatureExtractor(BaseModel):
    """A backbone that returns its feature maps and the mean colour by name.

    Args:
        backbone: Config of the backbone.
        mean_only: Return the mean colour of all images together instead.
    """

    def __init__(self, backbone: dict, mean_only: bool = False) -> None:
        super().__init__({'type': 'BatchDataPreprocessor'})
        self.mean_only = mean_only
        self.backbone: Any = MODELS.build(backbone)

    def forward(self, inputs: Tensor, data_samples: None = None, mode: str = 'tensor') -> dict[str, Any]:
        """Return a list of maps, and the mean colour ``(B, 3)``."""
        if self.mean_only:
            return {'grey': inputs.mean((0, 2, 3))}
        return {'maps': list(self.backbone(inputs)), 'grey': inputs.mean((2, 3))}


@MODELS.register_module()
class ToySegmentor(BaseModel):
    """Logits in half the resolution of the image, with attributes and interface of mmsegmentation's segmentors."""

    def __init__(self, backbone: dict, in_channels: int = 4, num_classes: int = 3) -> None:
        super().__init__({'type': 'BatchDataPreprocessor'})
        self.backbone: Any = MODELS.build(backbone)
        self.decode_head = nn.Conv2d(in_channels, num_classes, 1, stride=2)

    def forward(self, inputs: Tensor, data_samples: None = None, mode: str = 'tensor') -> Tensor:
        """Return logits ``(B, num_classes, H / 2, W / 2)``."""
        return self.decode_head(self.backbone(inputs)[0])
