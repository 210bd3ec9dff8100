"""Landmark heatmaps from a full-resolution feature map."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS, TASK_UTILS
from torch import Tensor, nn


@MODELS.register_module()
class HeatmapHead(BaseModule):
    """The last row of Table 8: a static 3x3 convolution to one map a landmark.

    It belongs to the head, not to the backbone, since it is the predictor, whose weights the paper learns directly
    (section 3.3).

    Args:
        in_channels: Channels of the feature map.
        num_landmarks: Number of landmarks.
        codec: Config of the codec that turns heatmaps into a loss and into points.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        in_channels: int,
        num_landmarks: int = 5,
        codec: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_landmarks = num_landmarks
        self.conv = nn.Conv2d(in_channels, num_landmarks, 3, padding=1)
        self.codec = TASK_UTILS.build({'type': 'SoftmaxHeatmapCodec'} if codec is None else codec)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Feature maps, of which the last ``(B, C, H, W)`` counts, to heatmaps ``(B, num_landmarks, H, W)``."""
        return self.conv(feats[-1])

    def loss(self, feats: Sequence[Tensor], data_samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """The codec's loss against ``data_samples['landmarks'] (B, num_landmarks, 2)`` in pixels.

        Raises:
            ValueError: If the number of landmarks is not ``num_landmarks``.
        """
        landmarks = data_samples['landmarks']
        if landmarks.shape[1:] != (self.num_landmarks, 2):
            raise ValueError(
                f"data_samples['landmarks'] should have shape (B, {self.num_landmarks}, 2), but got "
                f'{tuple(landmarks.shape)}; set num_landmarks of the head to what the data set gives'
            )
        return {'loss_landmark': self.codec.loss(self(feats), landmarks)}

    def predict(self, feats: Sequence[Tensor], data_samples: dict[str, Tensor] | None = None) -> list[dict]:
        """One dict an image: ``pred_landmarks (K, 2)`` in pixels and, where known, ``gt_landmarks`` and ``index``."""
        results = [{'pred_landmarks': points} for points in self.codec.decode(self(feats)).detach().cpu()]
        if data_samples is not None:
            for key, name in (('landmarks', 'gt_landmarks'), ('index', 'index')):
                if key in data_samples:
                    for result, value in zip(results, data_samples[key].cpu(), strict=True):
                        result[name] = value
        return results
