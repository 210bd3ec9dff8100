import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from fg_plugin.models import ImageClassifier, LinearClsHead


class TinyNet(BaseModule):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return (x, self.conv(x))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ImageClassifier(
        backbone=TinyNet(),
        head={'type': 'LinearClsHead', 'in_channels': 2 * 6 * 6, 'num_classes': 3},
        data_preprocessor={'type': 'BatchDataPreprocessor', 'channels': 1, 'image_size': 8},
    )


@pytest.fixture
def batch():
    inputs = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    return {'inputs': inputs, 'data_samples': {'labels': torch.tensor([0, 1, 2, 1]), 'index': torch.arange(4)}}


def test_loss_is_the_negative_log_likelihood(model, batch):
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    logits = model(data['inputs'])
    assert logits.shape == (4, 3)
    expected = -torch.stack([F.softmax(row, 0)[label].log() for row, label in zip(logits, [0, 1, 2, 1], strict=True)])
    torch.testing.assert_close(losses['loss_cls'], expected.mean())
    assert set(losses) == {'loss_cls', 'train_accuracy'}
    right = (logits.argmax(1) == batch['data_samples']['labels']).float().mean()
    torch.testing.assert_close(losses['train_accuracy'], 100 * right)
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss_cls'])


def test_every_parameter_gets_a_gradient(model, batch):
    model(**model.data_preprocessor(batch, True), mode='loss')['loss_cls'].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_predict_gives_one_dict_an_image(model, batch):
    predictions = model.val_step(batch)
    assert len(predictions) == 4
    for prediction, label in zip(predictions, [0, 1, 2, 1], strict=True):
        assert prediction['gt_label'] == label
        assert prediction['pred_scores'].sum() == pytest.approx(1)
        assert prediction['pred_label'] == prediction['pred_scores'].argmax()
        assert not prediction['pred_scores'].requires_grad


def test_predict_without_ground_truth(model):
    assert 'gt_label' not in model(torch.rand(1, 1, 8, 8), mode='predict')[0]
    assert 'gt_label' not in model(torch.rand(1, 1, 8, 8), {'index': torch.arange(1)}, mode='predict')[0]


@pytest.mark.parametrize(('samples', 'got'), [(None, 'None'), ({'landmarks': 0}, r"the keys \['landmarks'\]")])
def test_loss_without_labels(model, samples, got):
    with pytest.raises(ValueError, match=rf"data_samples should hold 'labels' for mode='loss', but got {got}; use"):
        model(torch.rand(1, 1, 8, 8), samples, mode='loss')


def test_unknown_mode(model):
    with pytest.raises(ValueError, match="mode should be 'tensor', 'loss' or 'predict', but got 'train'"):
        model(torch.rand(1, 1, 8, 8), mode='train')


def test_wrong_channel_count(model, batch):
    batch['inputs'] = batch['inputs'].repeat(1, 3, 1, 1)
    with pytest.raises(ValueError, match=r'should have 1 channel\(s\).* but got 3'):
        model.val_step(batch)


def test_image_of_another_size(model, batch):
    with pytest.raises(ValueError, match='should be 8x8 pixels, the size the network was built for, but got 5x5'):
        model.val_step({**batch, 'inputs': batch['inputs'][..., :5, :5]})
    with pytest.raises(
        ValueError, match=r'should have in_channels=72 values, but got 18 from a map of shape \(1, 2, 3'
    ):
        model(torch.rand(1, 1, 5, 5))


def test_head_needs_two_classes():
    with pytest.raises(ValueError, match='num_classes should be at least 2, but got 1'):
        LinearClsHead(4, 1)


def test_pending_reconstruction_loss_becomes_a_term(model, batch, monkeypatch):
    monkeypatch.setattr('fg_plugin.models.task_model.pending_reconstruction_loss', lambda module: torch.tensor(0.25))
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, logged = model.parse_losses(losses)
    assert logged['loss_rec'] == 0.25
    torch.testing.assert_close(total, losses['loss_cls'] + 0.25)


def test_filters_from_other_images(batch):
    torch.manual_seed(0)
    generated = ImageClassifier(
        backbone={
            'type': 'FGBackboneWrapper',
            'backbone': TinyNet(),
            'autoencoder': {
                'type': 'Autoencoder',
                'in_channels': 1,
                'kernel_size': 3,
                'encoder': ((4, 2),),
                'decoder': ('up',),
            },
            'neck': {'type': 'AEFeatureNeck'},
            'image_size': 8,
            'convert': {'init': 'orthogonal'},
        },
        head={'type': 'LinearClsHead', 'in_channels': 2 * 6 * 6, 'num_classes': 3},
    ).eval()
    inputs = torch.rand(4, 1, 8, 8)
    with generated.conditioned_on(inputs.flip(0)):
        swapped = generated(inputs)
    with generated.conditioned_on(inputs):
        own = generated(inputs)
    torch.testing.assert_close(own, generated(inputs))
    assert not torch.allclose(swapped, own)


def test_a_static_backbone_takes_no_filters_from_other_images(model):
    with pytest.raises(TypeError, match=r'backbone should be an FGBackboneWrapper .* but got TinyNet'):
        model.conditioned_on(torch.rand(4, 1, 8, 8))
