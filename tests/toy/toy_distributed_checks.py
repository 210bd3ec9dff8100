"""What one of several processes runs in the tests: it finds these by their module."""

import gc
import json

import pytest
import timm
import torch
import torch.nn.functional as F
import toy_components  # noqa: F401
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader
from toy_fg_components import ToyBackbone, ToyImages

import fg_plugin
import fg_plugin.registration
from fg_plugin.datasets.in_memory import batch_collate
from fg_plugin.hooks import SwapEvaluationHook
from fg_plugin.metrics import Accuracy, NormalizedMeanError
from fg_plugin.models import ImageClassifier
from fg_plugin.wrapper import FGBackboneWrapper


@METRICS.register_module()
class ToyLogits(BaseMetric):
    """The scores of each image, in the order of the images."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results += [sample['pred_scores'].tolist() for sample in data_samples]

    def compute_metrics(self, results):
        return {'scores': results}


def evaluate(rank, length, folder):
    """Evaluates each metric over a set of images, with the other process where there is one."""
    if rank is not None:
        distributed.init_process_group('gloo')
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, length), generator=generator)
    landmarks = torch.rand(2, length, 5, 2, generator=generator)
    rank_now, world_size = get_rank(), get_world_size()
    # As DefaultSampler does it: the last processes start anew where the images do not suffice.
    padded = -(-length // world_size) * world_size
    own = [index % length for index in range(rank_now, padded, world_size)]
    accuracy, error = Accuracy(), NormalizedMeanError()
    for index in own:
        accuracy.process(None, [dict(pred_label=labels[0, index], gt_label=labels[1, index])])
        error.process(None, [dict(pred_landmarks=landmarks[0, index], gt_landmarks=landmarks[1, index])])
    torch.manual_seed(0)
    backbone = FGBackboneWrapper(
        ToyBackbone(),
        autoencoder=dict(type='Autoencoder', in_channels=1, kernel_size=3, encoder=((4, 1), (6, 2)), norm='group'),
        neck=dict(type='AEFeatureNeck', norm='group'),
        image_size=8,
        convert=dict(init='orthogonal'),
        reconstruction_weight=0,
    )
    model = ImageClassifier(backbone, dict(type='LinearClsHead', in_channels=24, num_classes=4)).eval()
    loader = DataLoader(ToyImages(length), batch_size=3, sampler=own, collate_fn=batch_collate)
    swapped = SwapEvaluationHook(dict(type='ToyLogits'))._evaluate(model, loader)
    results = {**accuracy.evaluate(length), **error.evaluate(length), **swapped}
    if rank is not None:
        (folder / f'{rank}.json').write_text(json.dumps(results))
        distributed.destroy_process_group()
    return results


def normalise(rank, folder):
    distributed.init_process_group('gloo')
    try:
        nn.SyncBatchNorm(2)(torch.randn(2, 2, 3, 3))
    except ValueError as error:
        (folder / f'{rank}.txt').write_text(str(error))
    distributed.destroy_process_group()


class WrappedBackbone(nn.Module):
    def __init__(self, reconstruction_weight):
        super().__init__()
        decoder = ('up', 4) if reconstruction_weight else None
        encoder = dict(in_channels=1, kernel_size=3, encoder=((4, 1), (6, 2)))
        self.backbone = FGBackboneWrapper(
            ToyBackbone(),
            autoencoder=dict(type='Autoencoder', **encoder, decoder=decoder, norm='group'),
            neck=dict(type='AEFeatureNeck', norm='group'),
            image_size=8,
            convert=dict(init='orthogonal'),
            reconstruction_weight=reconstruction_weight,
        )
        self.fc = nn.Linear(24, 4)

    def forward(self, x):
        return self.fc(self.backbone(x)[0].flatten(1))


def create(kind, reconstruction_weight):
    """Return a network without batch normalisation, and the parts of it that are sharded on their own."""
    torch.manual_seed(0)
    if kind == 'wrapper':
        net = WrappedBackbone(reconstruction_weight)
        parts = [net.backbone]
    else:
        net = timm.create_model(
            'fg_test_convnext', num_classes=4, drop_path_rate=0.0, fg_reconstruction_weight=reconstruction_weight
        )
        parts = [block for stage in net.stages for block in stage.blocks]
    return net.double().train(), parts


def train_on_batch(net, kind, part=slice(None), steps=3):
    shape = (4, 1, 8, 8) if kind == 'wrapper' else (4, 3, 32, 32)
    images = torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if kind == 'timm':
        mean, std = (
            torch.tensor(net.pretrained_cfg[name], dtype=torch.float64).view(3, 1, 1) for name in ('mean', 'std')
        )
        images = (images - mean) / std
    labels = torch.arange(4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images[part]), labels[part]) + fg_plugin.reconstruction_loss(net)
        loss.backward()
        optimizer.step()


def check_sharded_network(net, state, reconstruction_weight):
    """Filters of another image, as the whole network has them; what needs whole parameters says so."""
    whole, _ = create('timm', reconstruction_weight)
    whole.load_state_dict(state)
    images, others = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for model in (net, whole):
        model.eval()
    with torch.no_grad(), net.conditioned_on(others), whole.conditioned_on(others):
        assert all(hasattr(parameter, 'full_tensor') for parameter in net.parameters())
        torch.testing.assert_close(net(images), whole(images), rtol=0, atol=1e-9)
    with pytest.raises(RuntimeError, match='without gradients'), net.conditioned_on(others):
        pass
    for refused in (fg_plugin.report, fg_plugin.revert_, lambda model: fg_plugin.freeze_(model, others)):
        with pytest.raises(ValueError, match='should be whole'):
            refused(net)
    plain = fully_shard(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(ValueError, match=r"of 'FSDPSequential' are distributed over processes.*before fully_shard"):
        fg_plugin.convert_(plain, mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 8, 8))


def train_sharded(rank, kind, reconstruction_weight, folder):
    distributed.init_process_group('gloo')
    mesh = init_device_mesh('cpu', (2,))
    net, parts = create(kind, reconstruction_weight)
    for part in parts:
        fully_shard(part, mesh=mesh)
    fully_shard(net, mesh=mesh)
    assert all(hasattr(parameter, 'full_tensor') for parameter in net.parameters())
    train_on_batch(net, kind, slice(2 * rank, 2 * rank + 2))
    state = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        torch.save(state, folder / 'weights.pt')
    if kind == 'timm':
        check_sharded_network(net, state, reconstruction_weight)
    # They hold the process group, whose threads may abort the process if they live to its end (see fg_plugin.launch).
    del net, parts
    gc.collect()
    distributed.destroy_process_group()


def condition_sharded(rank):
    """Give filters of other images to converted networks inside of others, sharded with these or on their own."""
    distributed.init_process_group('gloo')
    mesh = init_device_mesh('cpu', (1,))
    for kind in ('wrapper', 'timm'):
        size = (1, 8, 8) if kind == 'wrapper' else (3, 32, 32)
        images, others = torch.rand(2, 2, *size, dtype=torch.float64)
        for shards_itself in (True, False):
            inner, outer = _nested(kind)
            with torch.no_grad(), inner.conditioned_on(others):
                expected = outer(images)
            if shards_itself:
                fully_shard(inner, mesh=mesh)
            fully_shard(outer, mesh=mesh)
            if shards_itself:
                with torch.no_grad(), inner.conditioned_on(others):
                    torch.testing.assert_close(outer(images), expected, rtol=0, atol=1e-12)
                continue
            message = f'{type(inner).__name__} are sharded with a module around it. Call fully_shard for the network'
            with torch.no_grad(), pytest.raises(RuntimeError, match=message), inner.conditioned_on(others):
                pass
            del inner, outer
    gc.collect()
    distributed.destroy_process_group()


def _nested(kind):
    net, _ = create(kind, 0.0)
    net.eval()
    return (net.backbone, net) if kind == 'wrapper' else (net, nn.Sequential(net))
