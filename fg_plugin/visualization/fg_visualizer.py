"""Predictions drawn into MMEngine's visual backends."""

import numpy as np
from mmengine.dist import master_only
from mmengine.registry import VISUALIZERS
from mmengine.visualization import Visualizer

from fg_plugin.visualization.landmark_grid import PREDICTION_COLOUR, TRUTH_COLOUR


@VISUALIZERS.register_module()
class FGVisualizer(Visualizer):
    """MMEngine's visualizer with ``add_datasample`` for what the task models predict."""

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: dict | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        step: int = 0,
    ) -> None:
        """Draws one prediction over its image and hands it to all backends.

        Args:
            name: Name of the picture.
            image: RGB ``(H, W, 3)`` as uint8.
            data_sample: One dict of the model's ``mode='predict'``: labels become a text, landmarks points, the truth
                green and the prediction red.
            draw_gt: Whether to draw the truth.
            draw_pred: Whether to draw the prediction.
            step: Step the picture belongs to.
        """
        sample = data_sample or {}
        self.set_image(image)
        drawn = (('gt', draw_gt, TRUTH_COLOUR), ('pred', draw_pred, PREDICTION_COLOUR))
        for line, (prefix, wanted, colour) in enumerate(drawn):
            if wanted and f'{prefix}_landmarks' in sample:
                self.draw_points(sample[f'{prefix}_landmarks'], colors=colour, sizes=4)
            if wanted and f'{prefix}_label' in sample:
                text = f'{prefix}: {self._class_name(int(sample[f"{prefix}_label"]))}'
                self.draw_texts(text, np.array([[1, 1 + 12 * line]]), font_sizes=10, colors=colour)
        self.add_image(name, self.get_image(), step=step)

    def _class_name(self, label: int) -> str:
        classes = (self.dataset_meta or {}).get('classes')
        return str(label) if classes is None else str(classes[label])
