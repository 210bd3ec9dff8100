"""Networks that do more than to run their convolutions."""

import copy
import dataclasses
import importlib
import types
from functools import partial

import pytest
import torch
from perturbed import perturb_heads_
from torch import nn

import fg_plugin
from fg_plugin import FilterRepoConv

INPUT = dict(mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 32, 32))


def plain(cls=nn.Sequential):
    torch.manual_seed(0)
    return cls(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).double().eval()


def converted(cls=nn.Sequential, **options):
    model = plain(cls)
    fg_plugin.convert_(model, **INPUT, **options)
    return perturb_heads_(model)


def images(seed=0, batch=4):
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def replace_forward(conv):
    conv.forward = lambda x: 10 * nn.Conv2d.forward(conv, x)


def pad_with_ones(conv):
    def convolve(self, x, weight, bias):
        return nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), value=1), weight, bias)

    conv._conv_forward = types.MethodType(convolve, conv)


class TestInstancesOfConvolutions:
    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            (replace_forward, "its 'forward' was assigned to the instance"),
            (pad_with_ones, "its '_conv_forward' was assigned to the instance"),
            (lambda conv: conv.register_buffer('mask', torch.ones(1)), "it holds 'mask' besides its weight and bias"),
            (lambda conv: conv.add_module('act', nn.ReLU()), "it holds 'act' besides its weight and bias"),
            (
                lambda conv: conv._register_load_state_dict_pre_hook(lambda *_: None),
                'it has hooks of its state dict',
            ),
            (lambda conv: setattr(conv, 'level', 3), "its attribute 'level' means something else in a generated-"),
            (lambda conv: setattr(conv, 'frozen', False), "its attribute 'frozen' means something else in a generat"),
            (lambda conv: setattr(conv, 'coefficients', 3), "its attribute 'coefficients' means something else in a"),
        ],
    )
    def test_stay_static_with_what_a_layer_does_not_have(self, change, reason):
        model = plain()
        change(model[0])
        expected, keys = model(images()), model.state_dict().keys()
        records = fg_plugin.convert_(model, **INPUT)
        assert records[0].reason.startswith(reason)
        assert [type(model[0]), type(model[2])] == [nn.Conv2d, FilterRepoConv]
        torch.testing.assert_close(model(images()), expected)
        assert keys <= model.state_dict().keys()

    def test_keep_what_was_noted_on_them(self):
        model = plain()
        model[0].stage = 'first'
        fg_plugin.convert_(model, **INPUT)
        assert isinstance(model[0], FilterRepoConv)
        assert model[0].stage == copy.deepcopy(model)[0].stage == 'first'
        fg_plugin.revert_(model)
        assert type(model[0]) is nn.Conv2d
        assert model[0].stage == 'first'

    def test_do_not_run_on_after_they_were_compiled(self):
        model = plain()
        model[0].compile(backend='eager')
        fg_plugin.convert_(model, **INPUT)
        assert isinstance(model[0], FilterRepoConv)
        torch.testing.assert_close(perturb_heads_(model)(images()), converted()(images()))
        fg_plugin.freeze_(model, images())
        model[0].weight.data.zero_()
        assert not (model[0](images()) - model[0].bias.view(-1, 1, 1)).any()

    @pytest.mark.parametrize('revert', [False, True])
    @pytest.mark.parametrize('on_the_layer', [False, True])
    def test_keep_their_full_backward_hooks(self, revert, on_the_layer):
        model, gradients = plain(), []

        def note(module, inputs, outputs):
            gradients.append(outputs[0])

        if not on_the_layer:
            model[2].register_full_backward_hook(note)
        fg_plugin.convert_(model, **INPUT)
        if on_the_layer:
            model[2].register_full_backward_hook(note)
        if revert:
            fg_plugin.revert_(model)
        out = model(images())
        out.sum().backward()
        assert [gradient.shape for gradient in gradients] == [out.shape]


class RefusesLargeValues(nn.Sequential):
    def forward(self, x):
        if x.max() > 1.5:
            raise ValueError('too large')
        return super().forward(x)


class NeedsTwo(nn.Sequential):
    def forward(self, x, other):
        return super().forward(x)


class CastsItsInput(nn.Sequential):
    def forward(self, x):
        return super().forward(x.to(self[0].weight.dtype))


def test_a_forward_that_decides_by_values():
    model = plain(RefusesLargeValues)
    expected = model(images())
    before = fg_plugin.report(model, **INPUT)
    assert before == dataclasses.replace(fg_plugin.report(plain(), **INPUT), network='RefusesLargeValues')
    records = fg_plugin.convert_(model, **INPUT)
    assert fg_plugin.report(model) == before
    assert [record.reason for record in records] == ['', '']
    torch.testing.assert_close(model(images()), expected)
    with pytest.raises(ValueError, match='too large'):
        model(2 + images())


def test_a_forward_that_takes_something_else_is_not_blamed_on_the_size():
    with pytest.raises(ValueError, match=r"missing 1 required.*'other'\. It should take one batch of images\.$"):
        fg_plugin.convert_(plain(NeedsTwo), **INPUT)


@pytest.mark.parametrize('reconstruction_weight', [0.0, 1.0])
def test_a_host_that_casts_its_input(reconstruction_weight):
    model = plain(CastsItsInput).bfloat16().train()
    fg_plugin.convert_(model, **INPUT, reconstruction_weight=reconstruction_weight)
    out = model(images().float())
    assert out.dtype == torch.bfloat16
    (out.float().mean() + fg_plugin.reconstruction_loss(model)).backward()
    assert model[0].coefficient_head.scale.weight.grad.abs().sum() > 0


def test_a_host_on_two_devices():
    model = converted()
    with torch.no_grad(), model.conditioned_on(images()):
        assert model[2].to('meta')(images().new_empty(4, 8, 32, 32, device='meta')).shape == (4, 8, 32, 32)


def test_a_report_of_a_network_that_keeps_its_features():
    model = plain()
    model.last = model(images().requires_grad_())
    before = fg_plugin.report(model, **INPUT)
    fg_plugin.convert_(model, **INPUT)
    model.last = {'features': [model(images())]}
    assert fg_plugin.report(model).after == before.after
    assert model.last['features'][0].requires_grad


def test_a_class_that_was_changed_after_its_first_conversion():
    class Host(nn.Sequential):
        def forward(self, x):
            return super().forward(x)

    first = converted(Host)
    output = first(images())
    Host.forward = lambda self, x: 2 * nn.Sequential.forward(self, x)
    second = plain(Host)
    expected = second(images())
    fg_plugin.convert_(second, **INPUT)
    torch.testing.assert_close(second(images()), expected)
    assert torch.equal(first(images()), output)
    assert type(converted(Host)) is type(second)


@pytest.mark.parametrize('undo', [fg_plugin.revert_, lambda model: fg_plugin.freeze_(model, images())])
def test_a_parameter_of_the_network_itself_that_was_parametrised(undo):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.factor = plain(), nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, x):
            return self.factor * self.layers(x)

    model = Scaled()
    fg_plugin.convert_(model, **INPUT)
    nn.utils.parametrize.register_parametrization(model, 'factor', nn.Tanh())
    expected = model(images())
    with pytest.raises(ValueError, match=r'has got ParametrizedFGScaled since then.*remove_parametrizations'):
        undo(model)
    nn.utils.parametrize.remove_parametrizations(model, 'factor')
    undo(model)
    assert type(model) is Scaled
    torch.testing.assert_close(model(images()), expected)


@pytest.mark.parametrize('undo', [fg_plugin.revert_, lambda model: fg_plugin.freeze_(model, images())])
def test_a_forward_that_was_assigned_after_the_conversion(undo):
    model = converted()
    forward = model.forward
    model.forward = lambda *args: forward(*args)
    expected = model(images())
    with pytest.raises(ValueError, match=r"by the 'forward' of its class, but another .* first: del model\.forward\.$"):
        undo(model)
    torch.testing.assert_close(model(images()), expected)
    del model.forward
    undo(model)
    assert type(model) is nn.Sequential


class TestTwoNetworks:
    def test_both_keep_the_filters_they_were_given(self):
        first, second = converted(), converted(head='full')
        with torch.no_grad():
            with first.conditioned_on(images(1)):
                expected = first(images())
            with second.conditioned_on(images(2)):
                expected_of_second = second(images())
            with first.conditioned_on(images(1)), second.conditioned_on(images(2)):
                assert torch.equal(first(images()), expected)
                assert torch.equal(second(images()), expected_of_second)
                with first.conditioned_on(images(3)):
                    assert not torch.equal(first(images()), expected)

    def test_one_that_runs_another_leaves_it_its_filters(self):
        class Outer(nn.Sequential):
            def forward(self, x):
                return super().forward(x) + self.other[0](x)

        outer, inner = plain(Outer), converted()
        outer.other = [inner]
        fg_plugin.convert_(outer, **INPUT)
        with torch.no_grad(), inner.conditioned_on(images(1)):
            expected = inner(images())
            difference = outer(images()) - nn.Sequential.forward(plain(), images())
        torch.testing.assert_close(difference, expected)

    @pytest.mark.parametrize('use_reentrant', [True, False])
    def test_a_checkpoint_recomputes_both_with_the_filters_they_were_given(self, use_reentrant):
        first, second = converted(), converted(head='full')
        parameters = [*first.parameters(), *second.parameters()]

        def gradients(run):
            x = images().requires_grad_()
            with first.conditioned_on(images(1)), second.conditioned_on(images(2)):
                loss = run(lambda x: first(x).square().mean() + second(x).square().mean(), x)
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            return [parameter.grad for parameter in parameters]

        expected = gradients(lambda function, x: function(x))
        recomputed = gradients(partial(torch.utils.checkpoint.checkpoint, use_reentrant=use_reentrant))
        for gradient, expected_gradient in zip(recomputed, expected, strict=True):
            torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_a_backward_among_other_filters_recomputes_a_checkpoint_with_its_own(use_reentrant):
    model = converted()
    expected = torch.autograd.grad(model(images()).square().mean(), model.parameters())
    x = images().requires_grad_()
    loss = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=use_reentrant).square().mean()
    with model.conditioned_on(images(1)):
        loss.backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)


class TestDataParallel:
    @pytest.fixture
    def replicate(self, monkeypatch):
        """What ``nn.DataParallel`` does on several GPUs, but for the copies of the parameters."""
        module = importlib.import_module('torch.nn.parallel.replicate')
        monkeypatch.setattr(module, '_get_device_index', lambda device, optional=False: device)

        def copies(tensors, devices, detach=False):
            return [[tensor.clone() for tensor in tensors] for _ in devices]

        monkeypatch.setattr(module, '_broadcast_coalesced_reshape', copies)
        return lambda model: module.replicate(model, [0, 1, 2])

    def test_replicas_compute_what_the_network_does(self, replicate):
        model = converted(reconstruction_weight=1.0)
        batch = images(batch=3)
        outputs = torch.cat([net(image[None]) for net, image in zip(replicate(model), batch, strict=True)])
        torch.testing.assert_close(outputs, model(batch), rtol=0, atol=1e-12)

    def test_refuses_what_does_not_reach_the_replicas(self, replicate):
        model = nn.Sequential(converted(reconstruction_weight=1.0))
        with model[0].conditioned_on(images()), pytest.raises(RuntimeError, match='does not reach the replicas'):
            replicate(model)
        with pytest.raises(RuntimeError, match=r'nn\.DataParallel loses the reconstruction loss'):
            replicate(model.train())


@torch.no_grad()
def test_vmap_over_heads():
    model, heads = converted(), {}
    for name, parameter in model.named_parameters():
        if 'coefficient_head' in name:
            heads[name] = torch.stack([parameter, 2 * parameter])
    x = images()
    outputs = torch.func.vmap(lambda heads: torch.func.functional_call(model, heads, x))(heads)
    for index, output in enumerate(outputs):
        own = {name: stacked[index] for name, stacked in heads.items()}
        torch.testing.assert_close(output, torch.func.functional_call(model, own, x))


@pytest.mark.parametrize('head', ['lowrank', 'residual', 'full'])
def test_vmap_over_batches(head):
    model = converted(head=head)
    batches = torch.stack([images(1), images(2)])
    with torch.no_grad():
        expected = torch.stack([model(batch) for batch in batches])
        torch.testing.assert_close(torch.func.vmap(model)(batches), expected)


def test_gradients_of_each_image():
    model, x = converted(reconstruction_weight=1.0).train(), images()
    parameters = dict(model.named_parameters())

    def loss(parameters, image):
        out = torch.func.functional_call(model, parameters, image[None])
        return out.square().mean() + fg_plugin.reconstruction_loss(model)

    detached = {name: parameter.detach() for name, parameter in parameters.items()}
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(detached, x)
    for index, image in enumerate(x):
        expected = torch.autograd.grad(loss(parameters, image), list(parameters.values()))
        for gradient, expected_gradient in zip(gradients.values(), expected, strict=True):
            torch.testing.assert_close(gradient[index], expected_gradient)


def test_the_reconstruction_loss_is_part_of_a_compiled_step():
    model = plain().train()
    fg_plugin.convert_(model, **INPUT, reconstruction_weight=1.0)

    def step(x):
        return model(x).mean() + fg_plugin.reconstruction_loss(model)

    compiled = torch.compile(step, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(images()), step(images()))


def test_a_graph_of_any_size_holds_for_that_of_the_encoder():
    model = converted()
    height, width = torch.export.Dim('height', min=8, max=128), torch.export.Dim('width', min=8, max=128)
    with torch.no_grad():
        program = torch.export.export(model, (images(),), dynamic_shapes=({2: height, 3: width},)).module()
        for size in ((64, 64), (64, 40), (32, 64), (32, 32)):
            x = torch.rand(4, 3, *size, dtype=torch.float64)
            torch.testing.assert_close(program(x), model(x))
