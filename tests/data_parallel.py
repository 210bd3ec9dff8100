"""What one of the processes of tests/test_zoo_distributed.py runs: a new process has to find it by its module."""

import gc
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import fg_plugin

PROCESSES = 2


def create(reconstruction_weight: float) -> nn.Module:
    """Return a network without a batch normalisation, which would see half of the batch in each process."""
    torch.manual_seed(0)
    model = timm.create_model(
        'fg_convnext_atto', num_classes=4, drop_path_rate=0.0, fg_reconstruction_weight=reconstruction_weight
    )
    return model.double().train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2 * PROCESSES, 3, 64, 64, generator=generator, dtype=torch.float64)
    return (images - 0.45) / 0.25, torch.arange(len(images)) % 4


def train(net: nn.Module, images: Tensor, labels: Tensor, steps: int = 2) -> dict[str, Tensor]:
    """Return the gradients of the last step. The first step moves the heads from where they generate nothing."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels) + fg_plugin.reconstruction_loss(net)
        loss.backward()
        optimizer.step()
    return {name.removeprefix('module.'): parameter.grad for name, parameter in net.named_parameters()}


def train_in_a_process(rank: int, folder: Path, reconstruction_weight: float) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=PROCESSES)
    # find_unused_parameters=False: a parameter without a gradient would fail the second step.
    net = DistributedDataParallel(create(reconstruction_weight))
    images, labels = (part.chunk(PROCESSES)[rank] for part in batch())
    gradients = train(net, images, labels)
    torch.save(gradients, folder / f'gradients{rank}.pt')
    # It holds the process group, whose threads may abort the process if they live to its end (see fg_plugin.launch).
    del net
    gc.collect()
    distributed.destroy_process_group()
