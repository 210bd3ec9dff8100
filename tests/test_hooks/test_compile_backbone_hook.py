from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from torch._dynamo.testing import CompileCounter

from fg_plugin.hooks import CompileBackboneHook


def test_a_new_learning_rate_compiles_nothing():
    torch._dynamo.reset()
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='FGBackboneWrapper',
                backbone=dict(type='MNISTNet'),
                autoencoder=dict(
                    type='Autoencoder', in_channels=1, kernel_size=3, encoder=((4, 2), (4, 2)), decoder=('up', 'up')
                ),
                neck=dict(type='AEFeatureNeck'),
                image_size=16,
            ),
            head=dict(type='LinearClsHead', in_channels=5, num_classes=3),
        )
    )
    names, counter = list(model.state_dict()), CompileCounter()
    CompileBackboneHook(backend=counter, fullgraph=True).before_train(SimpleNamespace(model=model))
    optimizer = torch.optim.Adam(model.parameters())
    counts = []
    for rate in torch.linspace(1e-3, 1e-4, 6).tolist():
        optimizer.param_groups[0]['lr'] = rate
        losses = model(torch.rand(4, 1, 16, 16), dict(labels=torch.tensor([0, 1, 2, 0])), mode='loss')
        (losses['loss_cls'] + losses['loss_rec']).backward()
        optimizer.step()
        optimizer.zero_grad()
        counts.append(counter.frame_count)
    assert counts[0] == 1
    assert counts[1:] == [counts[1]] * 5
    assert list(model.state_dict()) == names


def test_a_model_without_a_backbone_is_refused():
    with pytest.raises(ValueError, match='the model should have a backbone for CompileBackboneHook, but got Linear'):
        CompileBackboneHook().before_train(SimpleNamespace(model=torch.nn.Linear(1, 1)))
