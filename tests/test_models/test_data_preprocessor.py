import pytest
import torch
from mmengine.registry import MODELS

from fg_plugin.models import BatchDataPreprocessor


def batch(channels=3, size=8, dtype=torch.uint8):
    inputs = torch.randint(0, 256, (2, channels, size, size)).to(dtype)
    return {'inputs': inputs, 'data_samples': {'labels': torch.tensor([0, 1])}}


def test_scales_to_unit_interval_and_keeps_targets():
    data = batch()
    out = MODELS.build({'type': 'BatchDataPreprocessor', 'channels': 3, 'image_size': 8})(data, training=True)
    assert out['inputs'].dtype == torch.float32
    torch.testing.assert_close(out['inputs'], data['inputs'].double().div(255).float())
    assert torch.equal(out['data_samples']['labels'], data['data_samples']['labels'])
    assert data['inputs'].dtype == torch.uint8, 'the caller keeps its batch'


def test_normalises_by_channel():
    data = batch()
    out = BatchDataPreprocessor(mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])(data)
    expected = data['inputs'].double() / 255
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)]):
        torch.testing.assert_close(
            out['inputs'][:, channel].double(), (expected[:, channel] - mean) / std, rtol=1e-5, atol=1e-6
        )


def test_float_batch_is_taken_as_is():
    data = {'inputs': torch.rand(2, 1, 4, 4, dtype=torch.float64), 'data_samples': {}}
    torch.testing.assert_close(BatchDataPreprocessor(channels=1)(data)['inputs'], data['inputs'].float())


def test_wrong_channel_count():
    with pytest.raises(ValueError, match=r'should have 1 channel\(s\), as the network takes, but got 3; convert'):
        BatchDataPreprocessor(channels=1)(batch(channels=3))


def test_wrong_image_size():
    with pytest.raises(ValueError, match=r'should be 28x28 pixels.* but got 8x8; resize them to 28x28'):
        BatchDataPreprocessor(image_size=28)(batch())


@pytest.mark.parametrize(
    ('inputs', 'got'), [([torch.rand(3, 8, 8)], 'list'), (torch.rand(3, 8, 8), r'a tensor of shape \(3, 8, 8\)')]
)
def test_not_a_batch(inputs, got):
    with pytest.raises(TypeError, match=rf"data\['inputs'\] should be one tensor .* but got {got}; set collate_fn"):
        BatchDataPreprocessor()({'inputs': inputs})


def test_other_types_than_pixels_have():
    with pytest.raises(TypeError, match=r'uint8 \(0 to 255\) or floating point \(0 to 1\), but got torch.int64'):
        BatchDataPreprocessor()(batch(dtype=torch.int64))


def test_mean_and_std_of_other_channels():
    with pytest.raises(ValueError, match='should have the 3 channels that mean and std are for, but got 1'):
        BatchDataPreprocessor(mean=[0.5] * 3, std=[0.5])(batch(channels=1))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'mean': [0.5]}, r'mean and std should be given together, but got mean=\[0.5\] and std=None'),
        ({'channels': 3, 'mean': [0.5, 0.5], 'std': [1, 1]}, 'mean should have 1 or channels=3 values, but got 2'),
        ({'mean': [0.5], 'std': [0.0]}, r'std should be positive, but got \(0.0,\)'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchDataPreprocessor(**arguments)
