import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fg_plugin.sweep.activation_memory import run_and_count
from fg_plugin.sweep.light_meta import LightMeta

FLOAT = 4


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value)


def test_counts_each_storage_once_and_no_parameter():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    images = torch.zeros(2, 3, 5, 5)
    out, saved = run_and_count(model, images)
    assert out.shape == (2, 4, 5, 5)
    # The convolution saves its input; the ReLU its output. The weight is no activation.
    assert saved == FLOAT * (images.numel() + out.numel())


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    ('build', 'shape'),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU()), (2, 3, 9, 9)),
        (lambda: nn.BatchNorm2d(3, affine=False), (2, 3, 9, 9)),
        (Attention, (2, 16, 8)),
    ],
)
def test_the_meta_device_saves_as_much_as_the_cpu(build, shape, training):
    model = build().train(training)
    images = torch.zeros(shape, requires_grad=True)
    out, saved = run_and_count(model, images)
    meta_out, meta_saved = run_and_count(model.to('meta'), images.to('meta'))
    assert meta_out.shape == out.shape
    # The log-sum-exp of attention is kept in other precisions, the statistics of a fixed normalisation nowhere.
    assert meta_saved == pytest.approx(saved, rel=0.02)


def test_attention_that_cannot_be_fused_runs_too():
    query, value = torch.zeros(2, 2, 5, 4, device='meta'), torch.zeros(2, 2, 5, 6, device='meta')
    with LightMeta():
        assert F.scaled_dot_product_attention(query, query, value).shape == (2, 2, 5, 6)
