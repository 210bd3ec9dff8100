import math

import pytest
import torch
from mmengine.registry import METRICS

import fg_plugin.metrics  # noqa: F401


def reference(predicted, truth):
    """Errors in percent, with plain loops."""
    errors = []
    for points, targets in zip(predicted.tolist(), truth.tolist(), strict=True):
        interocular = math.dist(targets[0], targets[1])
        errors.append([100 * math.dist(p, t) / interocular for p, t in zip(points, targets, strict=True)])
    return errors


def test_equals_reference():
    predicted, truth = 60 * torch.rand(7, 5, 2), 60 * torch.rand(7, 5, 2)
    samples = [{'pred_landmarks': p, 'gt_landmarks': t} for p, t in zip(predicted, truth, strict=True)]
    metric = METRICS.build({'type': 'NormalizedMeanError'})
    metric.process(None, samples[:4])
    metric.process(None, samples[4:])
    result = metric.evaluate(7)
    errors = reference(predicted, truth)
    for column, name in enumerate(['LE', 'RE', 'NT', 'LMC', 'RMC']):
        assert result.pop(f'NME/{name}') == pytest.approx(sum(row[column] for row in errors) / 7, rel=1e-5)
    assert result.pop('NME/AVG') == pytest.approx(sum(map(sum, errors)) / 35, rel=1e-5)
    assert result.pop('NME/maximal') == pytest.approx(max(map(max, errors)), rel=1e-5)
    assert not result


def test_known_value():
    truth = torch.tensor([[0.0, 0.0], [10.0, 0.0], [5.0, 5.0], [2.0, 8.0], [8.0, 8.0]])
    metric = METRICS.build({'type': 'NormalizedMeanError'})
    metric.process(None, [{'pred_landmarks': truth + torch.tensor([3.0, 4.0]), 'gt_landmarks': truth}])
    assert metric.evaluate(1)['NME/AVG'] == pytest.approx(50)


@pytest.mark.parametrize(('extra', 'name'), [({'index': torch.tensor(17)}, 'index 17'), ({}, 'place 1 of the batch')])
def test_coinciding_eyes_name_the_sample(extra, name):
    good = {'pred_landmarks': torch.zeros(5, 2), 'gt_landmarks': torch.rand(5, 2)}
    bad = {'pred_landmarks': torch.zeros(5, 2), 'gt_landmarks': torch.ones(5, 2), **extra}
    with pytest.raises(ValueError, match=f'should be positive, but got 0.0 for the sample of {name}: its true eye'):
        METRICS.build({'type': 'NormalizedMeanError'}).process(None, [good, bad])


def test_other_number_of_landmarks():
    sample = {'pred_landmarks': torch.zeros(4, 2), 'gt_landmarks': torch.rand(5, 2)}
    with pytest.raises(ValueError, match=r'should have shape \(5, 2\) .* but got \(4, 2\) and \(5, 2\)'):
        METRICS.build({'type': 'NormalizedMeanError'}).process(None, [sample])


def test_missing_ground_truth():
    with pytest.raises(KeyError, match="should hold 'gt_landmarks'"):
        METRICS.build({'type': 'NormalizedMeanError'}).process(None, [{'pred_landmarks': torch.zeros(5, 2)}])


def test_bad_eyes():
    with pytest.raises(ValueError, match=r'eyes should be two different positions below 5, but got \(0, 0\)'):
        METRICS.build({'type': 'NormalizedMeanError', 'eyes': (0, 0)})
