import uuid

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import VISUALIZERS

import fg_plugin.visualization  # noqa: F401


@pytest.fixture
def visualizer(tmp_path):
    return VISUALIZERS.build(
        {
            'type': 'FGVisualizer',
            'name': uuid.uuid4().hex,
            'vis_backends': [{'type': 'LocalVisBackend'}],
            'save_dir': str(tmp_path),
        }
    )


def saved(tmp_path):
    (path,) = tmp_path.rglob('*.png')
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_landmarks_are_drawn_where_they_are(visualizer, tmp_path):
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    sample = {'gt_landmarks': torch.tensor([[10.0, 20.0]]), 'pred_landmarks': torch.tensor([[50.0, 40.0]])}
    visualizer.add_datasample('face', image, sample, step=3)
    pixels = saved(tmp_path).astype(int)
    assert pixels[20, 10].tolist() == pytest.approx([0, 255, 0], abs=60)
    assert pixels[40, 50].tolist() == pytest.approx([255, 0, 0], abs=60)
    assert pixels[60, 5].sum() == 0


def test_what_is_not_wanted_is_not_drawn(visualizer, tmp_path):
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    sample = {'gt_landmarks': torch.tensor([[10.0, 20.0]]), 'pred_landmarks': torch.tensor([[50.0, 40.0]])}
    visualizer.add_datasample('face', image, sample, draw_gt=False)
    assert saved(tmp_path)[..., 1].max() < 60


def test_labels_are_written_with_class_names(visualizer, tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(visualizer, 'draw_texts', lambda text, *args, **kwargs: texts.append(text))
    visualizer.dataset_meta = {'classes': ('cat', 'dog')}
    sample = {'gt_label': torch.tensor(1), 'pred_label': torch.tensor(0)}
    visualizer.add_datasample('pet', np.zeros((32, 32, 3), dtype=np.uint8), sample)
    visualizer.dataset_meta = None
    visualizer.add_datasample('pet', np.zeros((32, 32, 3), dtype=np.uint8), {'pred_label': 7})
    assert texts == ['gt: dog', 'pred: cat', 'pred: 7']
