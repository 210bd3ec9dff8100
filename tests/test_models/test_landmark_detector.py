import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from fg_plugin.models import LandmarkDetector


class TinyNet(BaseModule):
    def __init__(self, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=stride, padding=1)

    def forward(self, x):
        return (self.conv(x),)


def build(backbone, codec='SoftmaxHeatmapCodec', num_landmarks=5):
    torch.manual_seed(0)
    return LandmarkDetector(
        backbone=backbone,
        head={
            'type': 'HeatmapHead',
            'in_channels': 4,
            'num_landmarks': num_landmarks,
            'codec': {'type': codec},
        },
    )


@pytest.fixture
def batch():
    inputs = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    return {'inputs': inputs, 'data_samples': {'landmarks': 15 * torch.rand(3, 5, 2), 'index': torch.arange(3)}}


@pytest.mark.parametrize('codec', ['SoftmaxHeatmapCodec', 'GaussianHeatmapCodec'])
def test_loss_trains_every_parameter(batch, codec):
    model = build(TinyNet(), codec)
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    assert set(losses) == {'loss_landmark'}
    losses['loss_landmark'].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model(data['inputs']).shape == (3, 5, 16, 16)


def test_predict_gives_one_dict_an_image(batch):
    predictions = build(TinyNet()).val_step(batch)
    assert [int(prediction['index']) for prediction in predictions] == [0, 1, 2]
    for prediction, truth in zip(predictions, batch['data_samples']['landmarks'], strict=True):
        assert prediction['pred_landmarks'].shape == (5, 2)
        assert not prediction['pred_landmarks'].requires_grad
        assert torch.equal(prediction['gt_landmarks'], truth)


def test_predict_without_ground_truth():
    assert set(build(TinyNet())(torch.rand(1, 3, 16, 16), mode='predict')[0]) == {'pred_landmarks'}


def test_loss_without_landmarks():
    with pytest.raises(ValueError, match="data_samples should hold 'landmarks' for mode='loss', but got None"):
        build(TinyNet())(torch.rand(1, 3, 16, 16), mode='loss')


def test_other_number_of_landmarks(batch):
    model = build(TinyNet(), num_landmarks=68)
    with pytest.raises(ValueError, match=r'should have shape \(B, 68, 2\), but got \(3, 5, 2\); set num_landmarks'):
        model(**model.data_preprocessor(batch, True), mode='loss')


def test_backbone_of_lower_resolution():
    with pytest.raises(ValueError, match=r"should have the image's size \(16, 16\), but got \(8, 8\)"):
        build(TinyNet(stride=2))(torch.rand(1, 3, 16, 16))
