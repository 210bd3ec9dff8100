"""Whole networks: convert_, revert_, freeze_ and what a converted network can do."""

import copy
import pickle
import threading

import pytest
import timm
import torch
from generated_keys import generated_keys
from perturbed import perturb_heads_
from timm.layers import StdConv2d
from torch import nn
from torch.nn.utils import prune

import fg_plugin
from fg_plugin import FilterRepoConv, NothingMatchedError, convert_, freeze_, revert_
from fg_plugin.convert import _mirrored
from fg_plugin.generated_model import GENERATOR, GeneratedModel
from fg_plugin.layers.filter_repo_conv import HEADS

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
HOST = dict(mean=MEAN, std=STD, input_size=(3, 32, 32))


class Host(nn.Module):
    """A user's network, with a convolution of a subclass, a depthwise one, and methods as timm names them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.standardised = StdConv2d(8, 12, 3, stride=2)
        self.norm = nn.BatchNorm2d(12)
        self.head_conv = nn.Conv2d(12, 16, 1)
        self.fc = nn.Linear(16, 5)

    def forward_features(self, x):
        return self.norm(self.standardised(self.depthwise(self.stem(x)).relu()))

    def forward_head(self, features, pre_logits=False):
        x = self.head_conv(features).relu().mean((2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def images(batch=3, seed=0, dtype=torch.float64):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_model(perturbed=True, host=None, **options):
    model = (Host() if host is None else host).double().eval()
    convert_(model, **HOST, **options)
    return perturb_heads_(model) if perturbed else model


class TestConversion:
    @pytest.mark.parametrize('head', HEADS)
    def test_computes_the_same_at_first_and_stays_an_instance_of_its_class(self, head):
        expected = Host().double().eval()(images())
        model = make_model(perturbed=False, head=head)
        torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-13)
        assert isinstance(model, Host)
        assert isinstance(model, GeneratedModel)

    def test_fine_tuning_moves_the_output_from_sample_to_sample(self):
        model = make_model(perturbed=False).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        labels = torch.tensor([0, 1, 2])
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images()), labels).backward()
            optimizer.step()
        model.eval()
        with model.conditioned_on(images().flip(0)):
            swapped = model(images())
        assert not torch.allclose(swapped, model(images()))

    def test_a_sample_does_not_depend_on_its_batch(self):
        model = make_model()
        alone = torch.cat([model(image[None]) for image in images()])
        torch.testing.assert_close(model(images()), alone, rtol=0, atol=1e-13)

    @pytest.mark.parametrize('head', HEADS)
    def test_a_batch_may_be_empty(self, head):
        assert make_model(head=head)(images()[:0]).shape == (0, *make_model()(images()).shape[1:])

    @pytest.mark.parametrize('batch', [1, 3])
    @pytest.mark.parametrize('head', HEADS)
    def test_every_parameter_gets_a_gradient_without_a_reconstruction_loss(self, head, batch):
        model = make_model(head=head).train()
        model(images(batch)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    def test_every_parameter_gets_a_gradient_with_a_reconstruction_loss(self):
        model = make_model(reconstruction_weight=1.0).train()
        x = (torch.rand(3, 3, 32, 32, dtype=torch.float64) - model.fg_generator.input_mean) / (
            model.fg_generator.input_std
        )
        (model(x).sum() + fg_plugin.reconstruction_loss(model)).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    @pytest.mark.parametrize('include', [['stem'], ['stem', 'head_conv'], ['depthwise']])
    def test_few_convolutions_leave_no_unused_parameter(self, include):
        model = make_model(include=include).train()
        model(images()).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    def test_explicit_levels_build_only_what_they_need(self):
        model = make_model(levels={'*': 0})
        assert len(model.fg_generator.autoencoder.encoder) == 1
        assert model.fg_generator.neck.code_dims == (16,)

    def test_the_encoder_sees_pixels(self):
        model, seen = make_model(), []
        model.fg_generator.autoencoder.encoder[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        pixels = torch.rand(2, 3, 64, 64, dtype=torch.float64)
        shift, scale = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
        model((pixels - shift) / scale)
        torch.testing.assert_close(seen[0], pixels, rtol=0, atol=1e-6)

    def test_modes_devices_and_dtypes_are_the_hosts(self):
        model = Host().to(torch.bfloat16).train()
        convert_(model, **HOST)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert all(module.training for module in model.modules())

    def test_on_the_meta_device(self):
        with torch.device('meta'):
            model = Host()
        convert_(model, **HOST)
        assert model(torch.empty(2, 3, 32, 32, device='meta')).shape == (2, 5)
        revert_(model)
        assert {parameter.device.type for parameter in model.parameters()} == {'meta'}


class TestContainers:
    """Networks that run or list their children: the generator is not one of them."""

    def test_sequential(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)).double()
        expected = model(images())
        convert_(model, **HOST)
        torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-13)
        assert len(model) == 3
        assert [type(module) for module in model] == [FilterRepoConv, nn.ReLU, FilterRepoConv]
        assert model[-1] is model[2]
        assert len(model[:2]) == 2
        assert any(name.startswith(GENERATOR) for name, _ in model.named_parameters())

    def test_module_dict(self):
        class Named(nn.ModuleDict):
            def forward(self, x):
                for module in self.values():
                    x = module(x)
                return x

        model = Named(dict(first=nn.Conv2d(3, 4, 3), second=nn.Conv2d(4, 5, 3))).double()
        expected = model(images())
        convert_(model, **HOST)
        torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-13)
        assert list(model) == list(model.keys()) == [name for name, _ in model.items()] == ['first', 'second']
        assert len(model) == 2


class TestConditioning:
    def test_filters_come_from_other_images(self):
        model = make_model()
        with model.conditioned_on(images(seed=1)):
            swapped = model(images())
        assert not torch.allclose(swapped, model(images()))
        with model.conditioned_on(images()):
            assert torch.equal(model(images()), model(images()))

    def test_one_image_serves_all(self):
        model, one = make_model(), images(1, seed=1)
        with model.conditioned_on(one.expand(3, -1, -1, -1)):
            expected = model(images())
        with model.conditioned_on(one):
            torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-13)

    def test_the_head_alone_finds_the_filters_of_its_features(self):
        model = make_model()
        features, others = model.forward_features(images()), model.forward_features(images(seed=1))
        assert torch.equal(model.forward_head(features), model(images()))
        assert torch.equal(model.forward_head(others, pre_logits=True), model.forward_head(others, True))
        assert torch.equal(model.forward_head(features=features), model(images()))

    def test_features_of_unknown_origin_need_a_conditioning(self):
        model = make_model()
        features = model.forward_features(images()).clone()
        with pytest.raises(RuntimeError, match="'head_conv' was called without conditioning"):
            model.forward_head(features)
        with model.conditioned_on(images()):
            assert torch.equal(model.forward_head(features), model(images()))

    def test_features_of_another_model_do_not_condition(self):
        model, other = make_model(), make_model()
        with pytest.raises(RuntimeError, match="'head_conv' was called without conditioning"):
            model.forward_head(other.forward_features(images()))

    def test_a_converted_model_inside_another_module(self):
        model = make_model()
        outer = nn.Sequential(model, nn.Softmax(dim=1))
        assert torch.equal(outer(images()), model(images()).softmax(1))

    def test_keyword_arguments(self):
        model = make_model()
        assert torch.equal(model(x=images()), model(images()))

    @pytest.mark.parametrize('inputs', [torch.zeros(3, 32, 32), 'image.png'])
    def test_refuses_what_is_no_batch_of_images(self, inputs):
        with pytest.raises(ValueError, match=r"'x' should be images \(B, C, H, W\)"):
            make_model()(inputs)

    def test_refuses_another_number_of_images(self):
        model = make_model()
        with model.conditioned_on(images(2)), pytest.raises(ValueError, match='but got 2 for 4 inputs'):
            model(images(4))
        features = model.forward_features(images(4))
        with model.conditioned_on(images(2)), pytest.raises(ValueError, match='but got 2 for 4 inputs'):
            model.forward_head(features)

    def test_threads(self):
        model = make_model()
        expected = [model(images(seed=seed)) for seed in range(4)]
        equal = [False] * 4

        def work(seed):
            equal[seed] = all(torch.equal(model(images(seed=seed)), expected[seed]) for _ in range(5))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(equal)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(copied):
    model = make_model()
    twin = copied(model)
    assert type(twin) is type(model)
    assert torch.equal(twin(images()), model(images()))
    twin.stem.weight.data.zero_()
    assert not torch.equal(twin(images()), model(images()))
    revert_(twin)
    assert type(twin) is Host
    assert isinstance(model, GeneratedModel)


class TestCheckpoints:
    def test_of_the_converted_network(self):
        model, twin = make_model(), make_model(perturbed=False)
        twin.load_state_dict(model.state_dict())
        assert torch.equal(twin(images()), model(images()))

    def test_of_the_host(self):
        host, model = Host().double().eval(), make_model(perturbed=False)
        for parameter in host.parameters():
            nn.init.normal_(parameter, std=0.3)
        result = model.load_state_dict(host.state_dict())
        assert not result.missing_keys
        torch.testing.assert_close(model(images()), host(images()), rtol=0, atol=1e-12)

    def test_that_fits_neither(self):
        state = Host().double().state_dict()
        state['layer1.weight'] = state.pop('stem.weight')
        with pytest.raises(RuntimeError, match=r'with generated filters or without.*missing stem\.weight.*layer1\.we'):
            make_model().load_state_dict(state)

    def test_of_another_size(self):
        state = Host().double().state_dict()
        state['fc.weight'] = torch.zeros(7, 16)
        with pytest.raises(RuntimeError, match=r'size mismatch for fc\.weight'):
            make_model().load_state_dict(state)

    def test_of_another_conversion(self):
        with pytest.raises(RuntimeError, match=r'stem\.coefficient_head'):
            make_model().load_state_dict(make_model(exclude=['stem']).state_dict())

    def test_keys(self):
        model = make_model()
        assert set(model.state_dict()) - generated_keys(model) == set(Host().state_dict())


class TestRevert:
    @pytest.mark.parametrize('head', HEADS)
    def test_gives_the_network_back_bit_for_bit(self, head):
        host = Host().double().eval()
        state, expected, hook = copy.deepcopy(host.state_dict()), host(images()), []
        host.stem.register_forward_hook(lambda *_: hook.append('stem'))
        model = make_model(host=host, head=head)
        revert_(model)
        assert type(model) is Host
        assert torch.equal(model(images()), expected)
        assert model.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert hook == ['stem']
        assert not hasattr(model, GENERATOR)

    def test_and_converted_again(self):
        model = make_model()
        revert_(model)
        expected = model(images())
        convert_(model, **HOST)
        torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-13)

    def test_says_what_it_cannot_restore(self):
        model = make_model(num_base_filters=4)
        before = model(images())
        with pytest.raises(ValueError, match="'stem' cannot be reverted: its repository of 4 base filters"):
            revert_(model)
        assert torch.equal(model(images()), before)

    def test_refuses_what_was_never_converted(self):
        with pytest.raises(ValueError, match='but Host is not'):
            revert_(Host())


class TestFreeze:
    @pytest.mark.parametrize('options', [dict(), dict(head='full'), dict(num_base_filters=4), dict(init='orthogonal')])
    def test_of_one_image_computes_what_the_image_conditioned(self, options):
        model, one = make_model(**options), images(1, seed=1)
        with model.conditioned_on(one), torch.no_grad():
            expected = model(images())
        freeze_(model, one)
        assert type(model) is Host
        assert model.state_dict().keys() == Host().state_dict().keys()
        torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-12)

    def test_takes_the_mean_coefficients(self):
        model = make_model(head='full')
        codes = model.fg_generator(images())
        layer = model.stem
        mean = layer.coefficient_head(codes[layer.level]).dense().mean(0)
        expected = (mean @ layer.weight.flatten(1)).view_as(layer.weight)
        freeze_(model, [images()[:1], images()[1:], images()[:0]])
        torch.testing.assert_close(model.stem.weight, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize('head', HEADS)
    def test_computes_in_the_precision_of_each_layer(self, head):
        class Mixed(nn.Sequential):
            def forward(self, x):
                return self[1](self[0](x).to(self[1].bias.dtype))

        model = Mixed(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
        convert_(model, **HOST, head=head)
        perturb_heads_(model)[1].double()
        twin, one = copy.deepcopy(model), images(1, dtype=torch.float32)
        with model.conditioned_on(one), torch.no_grad():
            expected = model(one)
        with torch.autocast('cpu', torch.bfloat16):
            freeze_(model, one)
        assert [conv.weight.dtype for conv in model] == [torch.float32, torch.float64]
        torch.testing.assert_close(model(one), expected, rtol=0, atol=1e-5)
        freeze_(twin, one)
        assert all(torch.equal(conv.weight, other.weight) for conv, other in zip(model, twin, strict=True))

    def test_keeps_the_modes(self):
        model = make_model().train()
        freeze_(model, images())
        assert all(module.training for module in model.modules())

    def test_needs_an_image_and_a_converted_network(self):
        model = make_model()
        with pytest.raises(ValueError, match='at least one image'):
            freeze_(model, [])
        assert isinstance(model.stem, FilterRepoConv)
        with pytest.raises(ValueError, match='but Host is not'):
            freeze_(Host(), images())


class TestFusing:
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x)

        def fuse(self):
            return self.conv

    def test_is_refused_while_filters_are_generated(self):
        model = nn.Sequential(self.Block(), nn.Conv2d(4, 4, 3))
        convert_(model, **HOST)
        with pytest.raises(RuntimeError, match=r"'0' cannot fuse its convolutions.*before its conversion"):
            model[0].fuse()
        with pytest.raises(RuntimeError, match='cannot fuse'):
            copy.deepcopy(model)[0].fuse()
        revert_(model)
        assert model[0].fuse() is model[0].conv

    def test_mmcv_fuses_no_batch_normalisation_in_evaluation(self):
        from mmcv.cnn import ConvModule

        options = dict(norm_cfg=dict(type='BN'), efficient_conv_bn_eval=True)
        host = nn.Sequential(ConvModule(3, 8, 3, **options), ConvModule(8, 8, 3, **options)).double().eval()
        nn.init.uniform_(host[0].bn.running_var)
        model = make_model(host=copy.deepcopy(host))
        blocks = [(block.conv, block.norm, block.activate) for block in model]
        with fg_plugin.conditioning.conditioning_scope(model.condition(images())):
            expected = images()
            for conv, norm, activate in blocks:
                expected = activate(norm(conv(expected)))
        torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-12)
        with pytest.raises(RuntimeError, match="'0' cannot turn_on_efficient_conv_bn_eval"):
            model[0].turn_on_efficient_conv_bn_eval()
        freeze_(model, images(1))
        assert model[0].efficient_conv_bn_eval_forward is host[0].efficient_conv_bn_eval_forward is not None
        model[0].turn_on_efficient_conv_bn_eval(False)
        assert model[0].efficient_conv_bn_eval_forward is None

    def test_of_parts_that_stay_static_is_left_alone(self):
        model = nn.Sequential(self.Block(), nn.Conv2d(4, 4, 3))
        convert_(model, **HOST, exclude=['0.*'])
        assert model[0].fuse() is model[0].conv


class TestReparametrised:
    """Tools of PyTorch that take the repository away and put what they compute from it in its place."""

    TOOLS = pytest.mark.parametrize(
        'reparametrise',
        [
            lambda layer: prune.l1_unstructured(layer, 'weight', 0.5),
            torch.nn.utils.weight_norm,
            torch.nn.utils.parametrizations.weight_norm,
        ],
        ids=['prune', 'weight_norm', 'parametrized weight_norm'],
    )

    @TOOLS
    def test_base_filters_can_be(self, reparametrise):
        model = make_model()
        reparametrise(model.stem)
        weight = model.stem.weight.detach().clone()
        outputs = model(images())
        outputs.sum().backward()
        plain = make_model()
        plain.stem.weight.data.copy_(weight)
        torch.testing.assert_close(outputs, plain(images()), rtol=0, atol=1e-12)

    @TOOLS
    @pytest.mark.parametrize('take_away', [revert_, lambda model: freeze_(model, images(1))], ids=['revert', 'freeze'])
    def test_a_plain_convolution_needs_them_plain(self, reparametrise, take_away):
        model = make_model()
        reparametrise(model.depthwise)
        expected = model(images())
        with pytest.raises(ValueError, match=r"'depthwise' should be a parameter.*prune\.remove"):
            take_away(model)
        assert torch.equal(model(images()), expected)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(include=['stern']), NothingMatchedError, "'stern' matches none of the 4 convolutions. Closest names: s"),
        (dict(exclude=['*']), NothingMatchedError, "leave nothing to convert: 'stem': excluded"),
        (dict(include='stem'), ValueError, r"include should be a list of patterns, but got the string 'stem'"),
        (dict(mean=(123, 117, 104)), ValueError, r'mean should be for pixels in \[0, 1\].*but got \(123, 117, 104\)'),
        (dict(std=None), ValueError, 'mean and std should be given together'),
        (dict(mean=None, std=None), ValueError, 'Host, which has no pretrained_cfg'),
        (
            dict(input_size=(1, 32, 32), mean=(0.5,), std=(0.2,)),
            ValueError,
            r'does not run on a batch of 7 inputs of size \(1, 32, 32\)',
        ),
        (dict(head='dense'), ValueError, "'stem' cannot be converted: head should be one of"),
        (dict(rank=0), ValueError, "'stem' cannot be converted: rank should be an integer >= 1"),
        (dict(num_base_filters=9), ValueError, "'stem' cannot be converted: num_base_filters should be at most"),
        (dict(reconstruction_weight=-1), ValueError, 'reconstruction_weight should be >= 0'),
        (dict(reconstruction_weight=1, encoder=((8, 3), (8, 2))), ValueError, 'strides of encoder should be powers of'),
        (dict(rank=2.5), ValueError, "'stem' cannot be converted: rank should be an integer >= 1, but got 2.5"),
        (dict(levels=[0, 1]), ValueError, r"levels should be 'depth', 'resolution' or a mapping .* got \[0, 1\]"),
        (dict(levels={'*': 'deep'}), ValueError, r"levels\['\*'\] should be in \[0, 3\), but got 'deep'"),
        (dict(levels={'*': 3}), ValueError, r"levels\['\*'\] should be in \[0, 3\)"),
    ],
)
def test_errors_come_before_the_first_change(options, error, message):
    model = Host()
    state = model.state_dict()
    with pytest.raises(error, match=message):
        convert_(model, **{**HOST, **options})
    assert type(model) is Host
    assert not any(isinstance(module, FilterRepoConv) for module in model.modules())
    assert model.state_dict().keys() == state.keys()


@pytest.mark.parametrize('step', ['convert.generated_class', 'generator.FilterGenerator.to'])
def test_nothing_changes_where_a_late_step_fails(monkeypatch, step):
    model = Host()
    monkeypatch.setattr(f'fg_plugin.{step}', lambda *_: pytest.fail('a late step'))
    with pytest.raises(pytest.fail.Exception, match='a late step'):
        convert_(model, **HOST)
    assert type(model) is Host
    assert [type(model.stem), type(model.standardised)] == [nn.Conv2d, StdConv2d]


def test_a_name_that_the_conversion_needs_is_taken():
    model = Host()
    model.fg_generator = nn.Identity()
    with pytest.raises(ValueError, match="Host should have no 'fg_generator' of its own"):
        convert_(model, **HOST)
    assert type(model.stem) is nn.Conv2d


def test_each_class_has_code_of_its_own_to_compile():
    class Other(Host):
        pass

    codes = {id(type(make_model(host=host)).forward.__code__) for host in (Host(), Other())}
    assert len(codes) == 2


def test_large_full_heads_are_refused_by_name():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4096, 1))
    with pytest.raises(
        ValueError, match=r"'1' cannot be converted: out_channels \* num_base_filters.*head='residual' or 'lowrank'"
    ):
        convert_(model, **HOST, head='full')


def test_refuses_to_convert_twice():
    with pytest.raises(ValueError, match=r'converted already \(FGHost\)'):
        convert_(make_model(), **HOST)
    with pytest.raises(ValueError, match=r"converted already: '0\.stem' is a FilterRepoConv"):
        convert_(nn.Sequential(make_model()), **HOST)


def with_own_forward(model):
    model.forward = model.forward_features
    return model


@pytest.mark.parametrize(
    ('wrap', 'message'),
    [
        (torch.compile, 'but got: OptimizedModule. Convert the network first'),
        (lambda model: torch.jit.trace(model, images(dtype=torch.float32)), 'but got: ScriptModule'),
        (torch.fx.symbolic_trace, 'but got: GraphModule'),
        (lambda model: model.stem, 'is a single one itself'),
        (lambda model: nn.ReLU(), 'ReLU has no parameters'),
        (lambda model: model.fc, r'Linear has no nn\.Conv2d'),
        (with_own_forward, "'forward' .* assigned to the instance"),
    ],
)
def test_refuses_what_is_no_plain_network(wrap, message):
    with pytest.raises(ValueError, match=message):
        convert_(wrap(Host().eval()), **HOST)


class RunsItsModules(nn.Sequential):
    def forward(self, x):
        for module in self._modules.values():
            x = module(x)
        return x


def test_a_network_that_runs_the_generator_hears_of_it():
    model = RunsItsModules(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    convert_(model, **HOST)
    with pytest.raises(
        RuntimeError, match=r'FGRunsItsModules should not run the generator as a layer.*self\.children\(\)'
    ):
        model(images(dtype=torch.float32))


def test_a_network_of_timm_without_a_configuration():
    model = timm.create_model('test_resnet')
    model.pretrained_cfg = None
    convert_(model, **HOST)
    assert isinstance(model.layer1[0].conv1, FilterRepoConv)


def test_the_decoder_mirrors_the_encoder():
    assert _mirrored([(16, 4), (32, 2), (64, 2)]) == ['up', 32, 'up', 16, 'up', 'up', 16]
