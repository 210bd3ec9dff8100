"""Converted networks in a plain training loop: in two processes, and in low precision."""

import copy

import pytest
import timm
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from data_parallel import PROCESSES, batch, create, train, train_in_a_process

import fg_plugin


@pytest.mark.parametrize('reconstruction_weight', [0.0, 1.0])
def test_two_processes_have_the_gradients_of_one(reconstruction_weight, tmp_path):
    mp.spawn(train_in_a_process, (tmp_path, reconstruction_weight), nprocs=PROCESSES)
    expected = train(create(reconstruction_weight), *batch())
    assert all(gradient.abs().max() > 0 for name, gradient in expected.items() if name.endswith('scale.weight'))
    for rank in range(PROCESSES):
        gradients = torch.load(tmp_path / f'gradients{rank}.pt')
        assert gradients.keys() == expected.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('precision', ['autocast', 'bfloat16'])
def test_trains_in_bfloat16(precision, memory_format):
    """Whole networks in bfloat16: the loss is near that of float32, and every parameter gets a finite gradient."""
    torch.manual_seed(0)
    model = timm.create_model('fg_mobilenetv3_small_050', num_classes=4, fg_reconstruction_weight=1.0)
    images, labels = (part.float() if part.is_floating_point() else part for part in batch())
    model = model.to(memory_format=memory_format)
    images = images.to(memory_format=memory_format)
    reference = copy.deepcopy(model)
    expected = F.cross_entropy(reference(images), labels) + fg_plugin.reconstruction_loss(reference)
    if precision == 'bfloat16':
        model, images = model.bfloat16(), images.bfloat16()
    with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'autocast'):
        out = model(images)
        loss = F.cross_entropy(out, labels) + fg_plugin.reconstruction_loss(model)
    loss.backward()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(loss.float(), expected, rtol=2e-2, atol=0)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
