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
