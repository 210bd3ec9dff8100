import pytest
import torch
from mmengine.config import Config

from fg_plugin.compat import enable_amp


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without CUDA')
def test_amp_on_a_cpu_needs_the_shim(toy_runner):
    with pytest.raises(AssertionError, match='only available'):
        toy_runner(**{'optim_wrapper.type': 'AmpOptimWrapper'}).train()


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without CUDA')
def test_amp_on_a_cpu_computes_in_bfloat16(toy_runner):
    runner = toy_runner(**{'optim_wrapper.type': 'CPUAmpOptimWrapper'})
    before = runner.model.layers[0].weight.detach().clone()
    runner.train()
    assert runner.model.logits_dtype == torch.bfloat16
    assert runner.model.layers[0].weight.dtype == torch.float32
    assert not torch.equal(runner.model.layers[0].weight, before)


@pytest.mark.parametrize(('cuda', 'expected'), [(True, 'AmpOptimWrapper'), (False, 'CPUAmpOptimWrapper')])
def test_the_wrapper_is_chosen_by_the_device(monkeypatch, cuda, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == expected
    assert ('loss_scale' in cfg.optim_wrapper) == cuda
    enable_amp(cfg)


def test_another_wrapper_is_refused():
    cfg = Config(dict(optim_wrapper=dict(type='ApexOptimWrapper')))
    with pytest.raises(ValueError, match=r"--amp should be used with .* 'OptimWrapper', but got 'ApexOptimWrapper'"):
        enable_amp(cfg)


@pytest.mark.parametrize(
    ('dtype', 'scale'), [('auto', 'dynamic'), ('float16', 'dynamic'), ('bfloat16', dict(enabled=False))]
)
def test_the_precision_on_a_gpu(monkeypatch, dtype, scale):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))
    enable_amp(cfg, dtype)
    assert cfg.optim_wrapper.loss_scale == scale
    assert cfg.optim_wrapper.get('dtype', 'auto') == dtype


def test_float16_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))
    with pytest.raises(ValueError, match='--amp should be bfloat16 on a machine without CUDA devices, but got float16'):
        enable_amp(cfg, 'float16')
    enable_amp(cfg, 'bfloat16')
    assert cfg.optim_wrapper.type == 'CPUAmpOptimWrapper'


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="dtype should be one of auto, float16, bfloat16, but got 'float8'"):
        enable_amp(Config(dict(optim_wrapper=dict())), 'float8')
