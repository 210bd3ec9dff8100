import threading

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper
from torch.utils.checkpoint import checkpoint as checkpoint_bound_at_import

from fg_plugin.conditioning import Conditioning, conditioning_scope, current_conditioning
from fg_plugin.layers import FilterRepoConv

CODE_DIM = 4


class Host(nn.Module):
    """Two generated-filter layers behind a host forward that knows nothing of codes."""

    def __init__(self, checkpointed=None):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(2, CODE_DIM)
        self.body = nn.Sequential(
            FilterRepoConv(2, 3, 3, padding=1, code_dim=CODE_DIM),
            nn.Tanh(),
            FilterRepoConv(3, 2, 3, padding=1, code_dim=CODE_DIM),
        )
        self.checkpointed = checkpointed
        self.double()

    def forward(self, x):
        with conditioning_scope(Conditioning(self, (self.encoder(x.mean((2, 3))),))):
            if self.checkpointed is None:
                return self.body(x)
            return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=self.checkpointed)


def inputs(seed):
    return torch.randn(2, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradients_of_two_forwards(model):
    outs = [model(inputs(seed)).square().sum() for seed in (1, 2)]
    (outs[0] + 2 * outs[1]).backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_two_forwards_before_one_backward_under_checkpointing(use_reentrant):
    expected = gradients_of_two_forwards(Host())
    gradients = gradients_of_two_forwards(Host(checkpointed=use_reentrant))
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_checkpointed_backward_in_another_thread(use_reentrant):
    expected, model = gradients_of_two_forwards(Host()), Host(checkpointed=use_reentrant)
    loss = sum(weight * model(inputs(seed)).square().sum() for seed, weight in ((1, 1), (2, 2)))
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    for parameter, expected_gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize('implementation', list(CheckpointImpl))
def test_a_checkpoint_wrapper_of_torch(implementation):
    expected, model = gradients_of_two_forwards(Host()), Host()
    model.body[2] = checkpoint_wrapper(model.body[2], checkpoint_impl=implementation)
    for gradient, expected_gradient in zip(gradients_of_two_forwards(model), expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


def test_checkpoint_without_conditioning_is_the_original():
    x = torch.randn(3, requires_grad=True)
    torch.utils.checkpoint.checkpoint(torch.sin, x, use_reentrant=False).sum().backward()
    torch.testing.assert_close(x.grad, x.cos())


def test_a_checkpoint_that_escapes_the_shim_raises_instead_of_computing_wrong_gradients():
    original = checkpoint_bound_at_import.__wrapped__
    model = Host()
    with conditioning_scope(Conditioning(model, (torch.zeros(2, CODE_DIM, dtype=torch.float64),))):
        out = original(model.body, inputs(1), use_reentrant=False)
    with pytest.raises(RuntimeError, match=r'without conditioning.*recomputes.*torch\.utils\.checkpoint\.checkpoint'):
        out.sum().backward()


def test_four_threads_do_not_see_each_other():
    model = Host().eval()
    expected = [model(inputs(seed)) for seed in range(4)]
    results, barrier = [True] * 4, threading.Barrier(4)

    def work(seed):
        barrier.wait()
        results[seed] = all(torch.equal(model(inputs(seed)), expected[seed]) for _ in range(50))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_the_scope_ends_with_an_error_and_nests():
    outer, inner = (Conditioning(nn.Identity(), (torch.zeros(1, 1),)) for _ in range(2))

    def fail():
        with conditioning_scope(inner):
            assert current_conditioning() is inner
            raise KeyError

    with conditioning_scope(outer):
        with pytest.raises(KeyError):
            fail()
        assert current_conditioning() is outer
    assert current_conditioning() is None


@pytest.mark.parametrize('dynamic', [False, True])
def test_compiles_without_graph_breaks(dynamic):
    model = Host()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager', dynamic=dynamic)
    for seed in (1, 2):
        expected = torch.autograd.grad(model(inputs(seed)).square().sum(), model.parameters())
        gradients = torch.autograd.grad(compiled(inputs(seed)).square().sum(), model.parameters())
        for gradient, expected_gradient in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


def test_exports_with_a_dynamic_batch():
    model = Host().eval()
    program = torch.export.export(model, (inputs(1).detach(),), dynamic_shapes=({0: torch.export.Dim('batch')},))
    for batch in (2, 3, 8):
        x = torch.randn(batch, 2, 5, 5, dtype=torch.float64)
        torch.testing.assert_close(program.module()(x), model(x), rtol=0, atol=1e-12)
