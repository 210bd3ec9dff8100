"""VGG11 for 32x32 images, the deep reference of the CIFAR-10 experiment."""

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor
from torchvision.models import vgg11, vgg11_bn


@MODELS.register_module()
class VGG11(BaseModule):
    """The convolutions of VGG11 (Simonyan & Zisserman, 2014), whose five pools leave 1x1 of a 32x32 image.

    Args:
        batch_norm: Whether a batch normalisation follows each convolution, as in the paper's other CIFAR-10 nets.
        init_cfg: As in ``BaseModule``.
    """

    def __init__(self, batch_norm: bool = True, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.features = (vgg11_bn if batch_norm else vgg11)().features

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images ``(B, 3, 32, 32)`` to features ``(B, 512, 1, 1)``.

        Raises:
            ValueError: For an image smaller than 32x32.
        """
        if min(x.shape[2:]) < 32:
            raise ValueError(f'The image should be at least 32x32, but got {tuple(x.shape[2:])}.')
        return (self.features(x),)
