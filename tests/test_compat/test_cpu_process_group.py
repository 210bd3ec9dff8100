import socket
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.runner import Runner

from fg_plugin.compat import prepare_launch

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without CUDA')


@pytest.fixture
def one_process_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    values = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    method = mp.get_start_method(allow_none=True)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    # MMEngine sets it for the whole process.
    mp.set_start_method(method, force=True)


@without_cuda
@pytest.mark.usefixtures('one_process_of_torchrun')
def test_torchrun_without_cuda_needs_the_shim(toy_runner):
    with pytest.raises((AssertionError, RuntimeError), match=r'CUDA|NVIDIA'):
        toy_runner(launcher='pytorch')


@without_cuda
@pytest.mark.usefixtures('one_process_of_torchrun')
def test_torchrun_without_cuda_trains(toy_runner):
    cfg = toy_runner().cfg
    cfg.env_cfg = dict(dist_cfg=dict(backend='nccl', timeout=60))
    prepare_launch(cfg, 'pytorch')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert dist.get_backend() == 'gloo'
    assert type(runner.model).__name__ == 'MMDistributedDataParallel'
    assert runner.model.device_ids is None
    assert runner.epoch == 3


@without_cuda
@pytest.mark.usefixtures('one_process_of_torchrun')
def test_the_model_wrapper_of_the_config_is_kept():
    cfg = Config(dict(model_wrapper_cfg=dict(type='Mine', find_unused_parameters=True)))
    prepare_launch(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg == dict(
        type='Mine', broadcast_buffers=False, find_unused_parameters=True, device_ids=None
    )


def test_a_single_process_is_left_alone():
    cfg = Config(dict())
    prepare_launch(cfg, 'none')
    assert cfg.to_dict() == dict(launcher='none')
    assert not dist.is_initialized()


@pytest.mark.parametrize('cuda', [False, True])
def test_several_processes_without_a_launcher_are_refused(monkeypatch, cuda):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ValueError, match=r"in the 2 processes of torchrun, but got 'none'.*Add --launcher pytorch"):
        prepare_launch(Config(dict()), 'none')
    monkeypatch.setenv('WORLD_SIZE', '1')
    prepare_launch(Config(dict()), 'none')


def test_gpus_are_left_to_mmengine(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = Config(dict())
    prepare_launch(cfg, 'slurm')
    assert cfg.to_dict() == dict(launcher='slurm')
    assert not dist.is_initialized()


@without_cuda
@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_that_assign_cuda_devices_are_refused(launcher):
    with pytest.raises(ValueError, match=rf"launcher should be 'pytorch' \(torchrun\).*but got '{launcher}'"):
        prepare_launch(Config(dict()), launcher)
