"""Landmark detection by heatmaps: Table 8 with or without generated filters."""

from mmengine.registry import MODELS
from torch import Tensor

from fg_plugin.models.task_model import TaskModel


@MODELS.register_module()
class LandmarkDetector(TaskModel):
    """A full-resolution backbone and a heatmap head; the loss needs ``data_samples['landmarks'] (B, K, 2)``."""

    target = 'landmarks'

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The backbone's feature maps, of which the last has the image's height and width.

        Raises:
            ValueError: If it has not: heatmap pixels would not be image pixels.
        """
        feats = super().extract_feat(inputs)
        if feats[-1].shape[-2:] != inputs.shape[-2:]:
            raise ValueError(
                f"the last feature map should have the image's size {tuple(inputs.shape[-2:])}, but got "
                f'{tuple(feats[-1].shape[-2:])}; use images whose height and width the strides of the backbone '
                'divide, and a backbone that returns to full resolution'
            )
        return feats
