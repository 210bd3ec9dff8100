import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from fg_plugin.hooks import ReconstructionLossHook
from fg_plugin.wrapper import FGBackboneWrapper


class Client(BaseModel):
    """A model of another package, which does not know that its backbone generates filters."""

    def __init__(self, reconstruction_weight):
        super().__init__()
        self.backbone = FGBackboneWrapper(
            nn.Sequential(nn.Conv2d(3, 4, 3)),
            autoencoder=dict(type='Autoencoder', in_channels=3, kernel_size=3, encoder=((4, 2),), decoder=('up',)),
            neck=dict(type='AEFeatureNeck'),
            image_size=8,
            reconstruction_weight=reconstruction_weight,
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.backbone(inputs)
        return {'loss': features.square().mean()} if mode == 'loss' else features


def hooked(weight):
    torch.manual_seed(0)
    model = Client(weight)
    for _ in range(2):  # a Runner may train twice
        ReconstructionLossHook().before_train(SimpleNamespace(model=model))
    return model


@pytest.mark.parametrize('copied', [lambda model: model, copy.deepcopy])
def test_adds_the_weighted_loss_to_the_losses(copied):
    model, plain = copied(hooked(0.5)), Client(1.0)
    plain.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 8, 8)
    losses = model(images, mode='loss')
    assert losses.keys() == {'loss', 'loss_rec'}
    plain(images)
    torch.testing.assert_close(losses['loss_rec'], 0.5 * plain.backbone.generator.take_reconstruction_loss())
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_leaves_what_is_no_loss():
    model = hooked(1.0)
    assert isinstance(model(torch.rand(2, 3, 8, 8)), torch.Tensor)
    assert hooked(0)(torch.rand(2, 3, 8, 8), mode='loss').keys() == {'loss'}
    assert model.eval()(torch.rand(2, 3, 8, 8), mode='loss').keys() == {'loss'}
