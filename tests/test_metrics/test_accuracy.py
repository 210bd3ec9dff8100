import pytest
import torch
from mmengine.registry import METRICS

import fg_plugin.metrics  # noqa: F401


def test_top1_in_percent():
    metric = METRICS.build({'type': 'Accuracy'})
    samples = [{'pred_label': torch.tensor(p), 'gt_label': torch.tensor(g)} for p, g in [(0, 0), (1, 2), (3, 3)]]
    metric.process(None, samples[:2])
    metric.process(None, samples[2:])
    assert metric.evaluate(3) == {'accuracy/top1': pytest.approx(200 / 3)}


def test_padded_samples_are_cut():
    metric = METRICS.build({'type': 'Accuracy'})
    metric.process(None, [{'pred_label': 0, 'gt_label': 0}, {'pred_label': 1, 'gt_label': 0}])
    assert metric.compute_metrics(metric.results[:1]) == {'top1': 100}


def test_missing_ground_truth():
    with pytest.raises(KeyError, match="should hold 'gt_label': the data set gave no labels"):
        METRICS.build({'type': 'Accuracy'}).process(None, [{'pred_label': 0}])
