import copy
import pickle
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from reference import generated_conv
from torch import nn

import fg_plugin.registration
from fg_plugin.convert_convs import freeze_convs_
from fg_plugin.generator import reconstruction_loss
from fg_plugin.hooks import CheckpointMismatchError, StrictLoadHook
from fg_plugin.layers import FilterRepoConv
from fg_plugin.wrapper import FGBackboneWrapper

# The latter as an outer model has it.
KAIMING = dict(type='Kaiming', layer=['Conv2d', 'Linear'])
OUTER = dict(type='TruncNormal', layer=['Conv2d', 'Linear', 'BatchNorm2d'], std=0.02)


class Backbone(BaseModule):
    """A backbone as OpenMMLab writes them: out_indices, a tuple of maps, optional checkpointing."""

    out_indices = (0, 1)

    def __init__(self, checkpointed=False, init_cfg=None):
        super().__init__(init_cfg)
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.checkpointed = checkpointed

    def forward(self, x):
        first = self.conv1(x).tanh()
        if self.checkpointed:
            return first, torch.utils.checkpoint.checkpoint(self.conv2, first, use_reentrant=False)
        return first, self.conv2(first)


class TimmLikeBackbone(nn.Sequential):
    """A backbone that is no BaseModule, whose init_weights would draw new weights."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3))

    def init_weights(self):
        nn.init.ones_(self[0].weight)


class LoadingBackbone(Backbone):
    """As mmpretrain's TIMMBackbone with pretrained=True."""

    def __init__(self):
        super().__init__(init_cfg=KAIMING)
        nn.init.ones_(self.conv1.weight)
        self._is_init = True


class ConvModuleBackbone(BaseModule):
    def __init__(self, conv_cfg):
        super().__init__(init_cfg=dict(type='Kaiming', layer='Conv2d'))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = ConvModule(4, 6, 3, padding=1, conv_cfg=dict(type='FilterRepoConv', **conv_cfg))

    def forward(self, x):
        return (self.block(self.stem(x)),)


class FreezingBackbone(Backbone):
    def __init__(self):
        super().__init__()
        self._freeze_stages()

    def _freeze_stages(self):
        self.conv1.eval().requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self._freeze_stages()
        return self


class DeployableBackbone(Backbone):
    def switch_to_deploy(self):
        raise AssertionError('it would fuse base filters')

    def get_layer_depth(self, param_name, prefix):
        return param_name, 2


class Nested(BaseModule):
    """A backbone whose child has the wrapper's name for it."""

    def __init__(self):
        super().__init__()
        self.backbone = Backbone()

    def forward(self, x):
        return self.backbone(x)


class Outer(BaseModule):
    """A model that holds a backbone, as OpenMMLab's classifiers do."""

    def __init__(self, backbone, init_cfg=None):
        super().__init__(init_cfg)
        self.backbone = backbone
        self.head = nn.Linear(6, 2)


def low_rank_(backbone):
    """Give each convolution filters that 3 base filters hold."""
    for conv in (backbone.conv1, backbone.conv2):
        conv.weight.data = (torch.randn(len(conv.weight), 3) @ torch.randn(3, conv.weight[0].numel())).view_as(
            conv.weight
        )
    return backbone


def layers_of(wrapper):
    return [module for module in wrapper.modules() if isinstance(module, FilterRepoConv)]


def static_filters(layer):
    """Filters of a code of zeros."""
    return layer.coefficient_head(torch.zeros(1, layer.code_dim)).filters(layer.weight)


def assert_equal_states(module, expected, buffers=True):
    states = [dict(m.state_dict() if buffers else m.named_parameters()) for m in (module, expected)]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


def load_by_torch(model, state_dict, strict):
    result = model.load_state_dict(state_dict, strict)
    assert not result.missing_keys
    assert not result.unexpected_keys


def load_by_mmengine(model, state_dict, strict):
    load_state_dict(model, state_dict, strict=strict)


def make_wrapper(backbone=None, **options):
    torch.manual_seed(0)
    options = {
        'autoencoder': dict(
            type='Autoencoder', in_channels=3, kernel_size=3, encoder=((4, 1), (6, 2)), decoder=('up',)
        ),
        'neck': dict(type='AEFeatureNeck'),
        'image_size': 16,
        'convert': dict(init='orthogonal'),
        **options,
    }
    return FGBackboneWrapper(backbone or Backbone(), **options)


def images(batch=3, seed=0):
    return torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_the_whole_method_equals_the_loop():
    wrapper = make_wrapper().double().eval()
    x = images().double()
    codes = wrapper.generator(x)
    convs = wrapper.backbone.conv1, wrapper.backbone.conv2
    coefficients = [conv.coefficient_head(codes[conv.level]).dense() for conv in convs]
    first = generated_conv(x, coefficients[0], convs[0]).tanh()
    second = generated_conv(first, coefficients[1], convs[1])
    for out, expected in zip(wrapper(x), (first, second), strict=True):
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_a_backbone_may_take_more_than_images():
    class Masking(Backbone):
        def forward(self, x, mask, scale=1.0):
            return super().forward(x * mask * scale)

    # Converted for its images alone, as a network is traced with one input.
    wrapper = make_wrapper(Backbone()).double().eval()
    wrapper.backbone.__class__ = Masking
    x, mask = images().double(), (images(seed=1) > 0.5).double()
    with wrapper.conditioned_on(x):
        expected = wrapper(2 * x * mask, mask=torch.ones_like(mask))
    for out, expected_out in zip(wrapper(x, mask, scale=2.0), expected, strict=True):
        torch.testing.assert_close(out, expected_out, rtol=0, atol=1e-12)


def test_a_graph_of_torch_fx():
    wrapper = make_wrapper().double().eval()
    graph = torch.fx.symbolic_trace(wrapper)
    for x in (images().double(), images(batch=5, seed=1).double()):
        for out, expected in zip(graph(x), wrapper(x), strict=True):
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_a_sample_does_not_depend_on_its_batch():
    wrapper = make_wrapper().double().eval()
    x = images().double()
    alone = torch.cat([wrapper(image[None])[1] for image in x])
    torch.testing.assert_close(wrapper(x)[1], alone, rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient():
    wrapper = make_wrapper()
    (wrapper(images())[1].sum() + reconstruction_loss(wrapper)).backward()
    assert all(parameter.grad is not None for parameter in wrapper.parameters())


def test_without_reconstruction_there_is_no_decoder_and_no_unused_parameter():
    wrapper = make_wrapper(reconstruction_weight=0)
    wrapper(images())[1].sum().backward()
    assert reconstruction_loss(wrapper) == 0
    assert wrapper.generator.autoencoder.decoder is None
    assert all(parameter.grad is not None for parameter in wrapper.parameters())


def test_preserve_computes_what_the_backbone_computed():
    backbone = Backbone().double()
    x = images().double()
    expected = backbone(x)
    wrapper = make_wrapper(backbone, convert=dict(init='preserve')).double()
    for out, expected_out in zip(wrapper(x), expected, strict=True):
        torch.testing.assert_close(out, expected_out, rtol=0, atol=1e-12)


def test_input_normalisation_is_undone_for_the_autoencoder_only():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    plain, normalised = make_wrapper(), make_wrapper(input_mean=mean, input_std=std)
    x = images()
    shift, scale = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
    codes = normalised.condition((x - shift) / scale).codes
    for code, expected in zip(codes, plain.condition(x).codes, strict=True):
        torch.testing.assert_close(code, expected, rtol=1e-4, atol=1e-5)
    assert plain.state_dict().keys() == normalised.state_dict().keys()


class TestConditionedOn:
    def test_the_same_images_change_nothing(self):
        wrapper = make_wrapper().eval()
        expected = wrapper(images())[1]
        with wrapper.conditioned_on(images()):
            assert torch.equal(wrapper(images())[1], expected)

    def test_filters_come_from_the_other_images(self):
        wrapper = make_wrapper().double().eval()
        x, other = images().double(), images(seed=1).double()
        with wrapper.conditioned_on(other):
            out = wrapper(x)[0]
        conv = wrapper.backbone.conv1
        coefficients = conv.coefficient_head(wrapper.generator(other)[conv.level]).dense()
        torch.testing.assert_close(out, generated_conv(x, coefficients, conv).tanh(), rtol=0, atol=1e-12)
        assert not torch.allclose(out, wrapper(x)[0])

    def test_one_image_serves_all(self):
        wrapper = make_wrapper().eval()
        x, one = images(), images(1, seed=1)
        with wrapper.conditioned_on(one.expand(3, -1, -1, -1)):
            expected = wrapper(x)[1]
        with wrapper.conditioned_on(one):
            torch.testing.assert_close(wrapper(x)[1], expected)

    def test_a_layer_alone_can_be_called_inside(self):
        wrapper = make_wrapper().eval()
        with pytest.raises(RuntimeError, match="'conv1' was called without conditioning"):
            wrapper.backbone.conv1(images())
        with wrapper.conditioned_on(images()):
            torch.testing.assert_close(wrapper.backbone.conv1(images()).tanh(), wrapper(images())[0])

    def test_another_wrapper_inside_uses_its_own_images(self):
        wrapper, other = make_wrapper().eval(), make_wrapper().eval()
        nn.init.normal_(other.backbone.conv1.weight)
        expected = other(images())[1]
        with wrapper.conditioned_on(images(seed=1)):
            assert torch.equal(other(images())[1], expected)

    def test_refuses_another_number_of_images(self):
        wrapper = make_wrapper().eval()
        with (
            wrapper.conditioned_on(images(2)),
            pytest.raises(ValueError, match='1 image or one per input, but got 2 for 3 inputs'),
        ):
            wrapper(images())


def test_two_forwards_before_one_backward_under_checkpointing():
    def gradients(checkpointed):
        torch.manual_seed(0)
        wrapper = make_wrapper(Backbone(checkpointed)).double()
        outs = [wrapper(images(seed=seed).double())[1].square().sum() for seed in (1, 2)]
        (outs[0] + 2 * outs[1] + reconstruction_loss(wrapper)).backward()
        return [parameter.grad for parameter in wrapper.parameters()]

    for gradient, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-11)


def test_four_threads():
    wrapper = make_wrapper().eval()
    expected = [wrapper(images(seed=seed))[1] for seed in range(4)]
    equal = [False] * 4

    def work(seed):
        equal[seed] = all(torch.equal(wrapper(images(seed=seed))[1], expected[seed]) for _ in range(10))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(equal)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda wrapper: pickle.loads(pickle.dumps(wrapper))])
def test_copies_in_the_middle_of_a_step(copied):
    wrapper = make_wrapper()
    wrapper(images())
    twin = copied(wrapper).eval()
    torch.testing.assert_close(twin(images())[1], wrapper.eval()(images())[1])


def test_a_copy_around_a_backbone_that_says_how_it_is_copied():
    wrapper = make_wrapper(torch.fx.symbolic_trace(Backbone())).eval()
    twin = copy.deepcopy(wrapper)
    assert type(twin) is FGBackboneWrapper
    torch.testing.assert_close(twin(images())[1], wrapper(images())[1])


@pytest.mark.parametrize('training', [False, True])
def test_compiles_without_graph_breaks(training):
    wrapper = make_wrapper().train(training)
    compiled = torch.compile(copy.deepcopy(wrapper), fullgraph=True, backend='aot_eager')
    for out, expected in zip(compiled(images()), wrapper(images()), strict=True):
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    if training:
        torch.testing.assert_close(reconstruction_loss(compiled), reconstruction_loss(wrapper))


def test_the_backbone_shines_through():
    wrapper = make_wrapper()
    assert wrapper.out_indices == (0, 1)
    with pytest.raises(AttributeError, match='no attribute'):
        _ = wrapper.out_channels


class TestInitWeights:
    """Runner calls init_weights() on every model it has built, whatever was loaded before (mmengine #1335)."""

    @pytest.mark.parametrize('num_base_filters', [None, 2])
    def test_gives_what_the_plain_backbone_gets(self, num_base_filters):
        plain = Backbone(init_cfg=KAIMING)
        wrapper = make_wrapper(dict(type=Backbone, init_cfg=KAIMING), convert=dict(num_base_filters=num_base_filters))
        torch.manual_seed(1)
        plain.init_weights()
        torch.manual_seed(1)
        wrapper.init_weights()
        if num_base_filters is None:
            torch.testing.assert_close(wrapper(images()), plain(images()))
        else:
            for name in ('conv1', 'conv2'):
                conv, layer = getattr(plain, name), getattr(wrapper.backbone, name)
                best = FilterRepoConv.from_conv(conv, code_dim=layer.code_dim, num_base_filters=num_base_filters)
                torch.testing.assert_close(static_filters(layer), static_filters(best))

    @pytest.mark.parametrize('num_base_filters', [None, 2])
    @pytest.mark.parametrize('init', ['preserve', 'orthogonal'])
    def test_of_an_outer_model_leaves_the_generation(self, init, num_base_filters):
        backbone = dict(type=Backbone, init_cfg=KAIMING)
        wrapper = make_wrapper(backbone, convert=dict(init=init, num_base_filters=num_base_filters))
        before = copy.deepcopy(wrapper)
        Outer(wrapper, OUTER).init_weights()
        assert_equal_states(wrapper.generator, before.generator)
        for layer, old in zip(layers_of(wrapper), layers_of(before), strict=True):
            if init == 'orthogonal':
                assert torch.equal(layer.weight, old.weight)
            if init == 'orthogonal' or num_base_filters is None:
                assert_equal_states(layer.coefficient_head, old.coefficient_head)
            assert not layer.bias.any()
        pickle.dumps(copy.deepcopy(wrapper))

    def test_of_an_outer_model_preserves_the_function(self):
        plain = Outer(Backbone(), OUTER)
        wrapped = Outer(make_wrapper(dict(type=Backbone), convert={}), OUTER)
        wrapped.init_weights()
        assert wrapped.backbone.backbone.conv1.weight.abs().max() < 0.1 < plain.backbone.conv1.weight.abs().max()
        plain.load_state_dict(
            {f'backbone.{key}': value for key, value in wrapped.backbone.backbone.state_dict().items()}, strict=False
        )
        torch.testing.assert_close(wrapped.backbone(images()), plain.backbone(images()))

    @pytest.mark.parametrize('init', ['preserve', 'orthogonal'])
    @pytest.mark.parametrize('cls', [Backbone, TimmLikeBackbone])
    def test_keeps_the_weights_of_a_given_module(self, cls, init):
        torch.manual_seed(3)
        backbone = cls()
        backbone.init_cfg = KAIMING
        wrapper = make_wrapper(backbone, convert=dict(init=init), init_cfg=KAIMING)
        before = copy.deepcopy(wrapper.state_dict())
        Outer(wrapper, OUTER).init_weights()
        assert all(torch.equal(value, before[key]) for key, value in wrapper.state_dict().items())

    def test_keeps_weights_that_a_backbone_loaded_while_it_was_built(self):
        wrapper = make_wrapper(dict(type=LoadingBackbone), convert=dict())
        Outer(wrapper, OUTER).init_weights()
        assert (wrapper.backbone.conv1.weight == 1).all()

    def test_keeps_a_loaded_checkpoint(self):
        trained = make_wrapper(dict(type=Backbone, init_cfg=KAIMING))
        wrapper = make_wrapper(dict(type=Backbone, init_cfg=KAIMING))
        nn.init.normal_(trained.backbone.conv1.weight)
        wrapper.load_state_dict(trained.state_dict())
        Outer(wrapper, OUTER).init_weights()
        assert_equal_states(wrapper, trained)

    def test_loads_a_pretrained_wrapper_last(self, tmp_path):
        trained = Outer(make_wrapper())
        torch.save(trained.state_dict(), tmp_path / 'trained.pth')
        pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'trained.pth'), prefix='backbone.')
        wrapper = make_wrapper(dict(type=Backbone), init_cfg=[KAIMING, pretrained])
        wrapper.init_weights()
        assert_equal_states(wrapper, trained.backbone)
        assert wrapper.init_cfg == [KAIMING, pretrained]

    @pytest.mark.parametrize(
        'convert', [dict(), dict(init='orthogonal'), dict(num_base_filters=3), dict(init='orthogonal', head='full')]
    )
    def test_loads_a_pretrained_plain_backbone(self, tmp_path, convert):
        plain = Outer(low_rank_(Backbone()))
        torch.save(plain.state_dict(), tmp_path / 'plain.pth')
        pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'), prefix='backbone.')
        outer = Outer(make_wrapper(dict(type=Backbone, init_cfg=pretrained), convert=convert), OUTER)
        outer.init_weights()
        torch.testing.assert_close(outer.backbone(images()), plain.backbone(images()), rtol=1e-4, atol=1e-5)

    def test_refuses_generated_filters_for_the_inner_backbone(self, tmp_path):
        torch.save(make_wrapper().backbone.state_dict(), tmp_path / 'trained.pth')
        backbone = dict(type=Backbone, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'trained.pth')))
        wrapper = make_wrapper(backbone)
        with pytest.raises(ValueError, match="it holds generated filters for 'conv1'\\. Give the init_cfg to"):
            wrapper.init_weights()
        assert isinstance(wrapper.backbone.conv1, FilterRepoConv)

    def test_refuses_filters_for_more_base_filters(self, tmp_path):
        torch.save(Backbone().state_dict(), tmp_path / 'plain.pth')
        backbone = dict(type=Backbone, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth')))
        wrapper = make_wrapper(backbone, convert=dict(init='orthogonal', num_base_filters=5))
        with pytest.raises(ValueError, match="into 'conv1', because it has 5 base filters for 4 filters"):
            wrapper.init_weights()

    def test_does_nothing_the_second_time(self):
        wrapper = make_wrapper(dict(type=Backbone, init_cfg=KAIMING))
        wrapper.init_weights()
        before = copy.deepcopy(wrapper)
        wrapper.init_weights()
        Outer(wrapper, KAIMING).init_weights()
        assert_equal_states(wrapper.generator, before.generator)
        assert not hasattr(wrapper, '_params_init_info')


class TestBareCheckpoint:
    """A checkpoint of the model without the wrapper: keys 'backbone.conv1.weight'."""

    @pytest.mark.parametrize('load', [load_by_torch, load_by_mmengine])
    @pytest.mark.parametrize(
        'convert', [dict(), dict(init='orthogonal'), dict(num_base_filters=3), dict(init='orthogonal', head='full')]
    )
    @pytest.mark.parametrize('strict', [True, False])
    def test_loads_into_the_wrapped_model(self, load, convert, strict):
        plain, wrapped = Outer(low_rank_(Backbone())), Outer(make_wrapper(convert=convert))
        generator = copy.deepcopy(wrapped.backbone.generator)
        load(wrapped, plain.state_dict(), strict)
        torch.testing.assert_close(wrapped.backbone(images()), plain.backbone(images()), rtol=1e-4, atol=1e-5)
        assert torch.equal(wrapped.head.weight, plain.head.weight)
        assert_equal_states(wrapped.backbone.generator, generator, buffers=False)
        again = wrapped.load_state_dict(copy.deepcopy(wrapped.state_dict()))
        assert not again.missing_keys

    def test_loads_into_a_wrapper_alone(self):
        plain, wrapper = Backbone(), make_wrapper(convert=dict())
        wrapper.load_state_dict(plain.state_dict())
        torch.testing.assert_close(wrapper(images()), plain(images()))

    def test_still_names_what_is_missing_or_unknown(self):
        state = Outer(Backbone()).state_dict()
        del state['backbone.conv2.weight']
        state['backbone.conv3.weight'] = torch.zeros(1)
        wrapped = Outer(make_wrapper())
        result = wrapped.load_state_dict(state, strict=False)
        assert result.missing_keys == ['backbone.backbone.conv2.weight']
        assert result.unexpected_keys == ['backbone.backbone.conv3.weight']
        with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"backbone.backbone.conv2.weight"'):
            wrapped.load_state_dict(state)

    def test_a_checkpoint_of_the_wrapper_stays_as_it_is(self):
        trained, wrapped = Outer(make_wrapper()), Outer(make_wrapper(low_rank_(Backbone())))
        wrapped.load_state_dict(trained.state_dict())
        assert_equal_states(wrapped, trained)

    def test_without_the_generator_it_is_incomplete(self):
        state = {key: value for key, value in Outer(make_wrapper()).state_dict().items() if 'generator' not in key}
        with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"backbone.generator.autoencoder'):
            Outer(make_wrapper()).load_state_dict(state)

    def test_a_backbone_with_a_child_of_the_same_name(self):
        nested, wrapped = Nested(), Outer(make_wrapper(Nested(), convert=dict()))
        wrapped.load_state_dict({**Outer(nested).state_dict()})
        torch.testing.assert_close(wrapped.backbone(images()), nested(images()))
        trained = Outer(make_wrapper(Nested()))
        wrapped.load_state_dict(trained.state_dict())
        assert_equal_states(wrapped, trained)

    def test_refuses_keys_of_both_kinds(self):
        state = Outer(Backbone()).state_dict()
        state['backbone.backbone.conv1.weight'] = state.pop('backbone.conv1.weight')
        state['backbone.backbone.conv1.bias'] = state.pop('backbone.conv1.bias')
        with pytest.raises(RuntimeError, match='2 keys fit the former and as many the latter, such as'):
            Outer(make_wrapper()).load_state_dict(state)

    def test_a_strict_load_hook_accepts_it(self):
        plain, wrapped = Outer(Backbone()), Outer(make_wrapper(convert=dict()))
        checkpoint = dict(state_dict=plain.state_dict())
        StrictLoadHook().after_load_checkpoint(SimpleNamespace(model=wrapped), checkpoint)
        torch.testing.assert_close(wrapped.backbone(images()), plain.backbone(images()))
        checkpoint['state_dict']['backbone.conv1.weight'] = torch.zeros(1)
        with pytest.raises(CheckpointMismatchError, match='another architecture'):
            StrictLoadHook().after_load_checkpoint(SimpleNamespace(model=wrapped), checkpoint)


# Fits the codes of make_wrapper's neck.
FITTING = dict(code_dim=6, level=1)


class TestConvCfg:
    """Layers that the backbone builds itself, as conv_cfg=dict(type='FilterRepoConv', ...)."""

    def test_the_wrapper_drives_them(self):
        wrapper = make_wrapper(dict(type=ConvModuleBackbone, conv_cfg=FITTING), convert=None).double().eval()
        assert [(record.name, record.level, record.reason) for record in wrapper.records] == [
            ('stem', None, 'it was not built as a FilterRepoConv'),
            ('block.conv', 1, ''),
        ]
        x = images().double()
        layer = wrapper.backbone.block.conv
        coefficients = layer.coefficient_head(wrapper.generator(x)[layer.level]).dense()
        expected = generated_conv(wrapper.backbone.stem(x), coefficients, layer).relu()
        torch.testing.assert_close(wrapper(x)[0], expected, rtol=0, atol=1e-12)

    def test_trains_every_parameter(self):
        wrapper = make_wrapper(dict(type=ConvModuleBackbone, conv_cfg=FITTING), convert=None)
        (wrapper(images())[0].square().sum() + reconstruction_loss(wrapper)).backward()
        assert all(parameter.grad is not None for parameter in wrapper.parameters())

    def test_options_of_the_layer_pass_through(self):
        conv_cfg = dict(**FITTING, head='lowrank', rank=2, num_base_filters=3)
        layer = make_wrapper(dict(type=ConvModuleBackbone, conv_cfg=conv_cfg), convert=None).backbone.block.conv
        assert (layer.num_base_filters, layer.coefficient_head.scale.out_features, layer.name) == (3, 2, 'block.conv')

    def test_the_repository_is_orthogonal_despite_init_weights(self):
        wrapper = make_wrapper(dict(type=ConvModuleBackbone, conv_cfg=FITTING), convert=None)
        Outer(wrapper, OUTER).init_weights()
        rows = wrapper.backbone.block.conv.weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)

    def test_a_given_module_keeps_its_layers(self):
        backbone = ConvModuleBackbone(FITTING)
        weight = backbone.block.conv.weight.clone()
        assert torch.equal(make_wrapper(backbone, convert=None).backbone.block.conv.weight, weight)

    @pytest.mark.parametrize(
        ('conv_cfg', 'convert', 'message'),
        [
            (dict(code_dim=5, level=1), None, r"'block.conv' should be 6, .* level 1, but got 5. .* \(4, 6\)"),
            (dict(code_dim=6, level=2), None, r"level of the FilterRepoConv 'block.conv' should be in \[0, 2\)"),
            (FITTING, dict(head='full'), 'convert should be left out .*head, rank and num_base_filters in the'),
        ],
    )
    def test_refuses_what_does_not_fit(self, conv_cfg, convert, message):
        with pytest.raises(ValueError, match=message):
            make_wrapper(dict(type=ConvModuleBackbone, conv_cfg=conv_cfg), convert=convert)


class TestFrozenStages:
    def test_heads_are_frozen_with_their_stage(self):
        wrapper = make_wrapper(dict(type=FreezingBackbone), convert=dict())
        frozen = [name for name, parameter in wrapper.backbone.named_parameters() if not parameter.requires_grad]
        assert {name.split('.')[0] for name in frozen} == {'conv1'}
        assert any('coefficient_head' in name for name in frozen)

    def test_train_reaches_the_backbone(self):
        wrapper = make_wrapper(dict(type=FreezingBackbone), convert=dict())
        wrapper.requires_grad_(True).eval().train()
        assert not wrapper.backbone.conv1.training
        assert not any(parameter.requires_grad for parameter in wrapper.backbone.conv1.parameters())


def test_layer_depth_is_asked_for_by_the_name_the_backbone_knows():
    wrapper = make_wrapper(DeployableBackbone())
    assert wrapper.get_layer_depth('backbone.backbone.conv1.weight', 'backbone.') == ('backbone.conv1.weight', 2)
    assert wrapper.get_layer_depth('backbone.generator.fc', prefix='backbone.') == ('backbone.generator.fc', 2)
    assert not hasattr(make_wrapper(), 'get_layer_depth')


def test_fusing_is_refused():
    wrapper = make_wrapper(DeployableBackbone())
    with pytest.raises(RuntimeError, match='cannot switch_to_deploy its convolutions'):
        wrapper.switch_to_deploy()


def test_builds_from_a_registered_backbone():
    wrapper = MODELS.build(
        dict(
            type='FGBackboneWrapper',
            backbone=dict(type='UNet', n=4),
            autoencoder=dict(
                type='Autoencoder', in_channels=3, kernel_size=3, encoder=((4, 1), (6, 2)), decoder=('up',)
            ),
            neck=dict(type='AEFeatureNeck'),
            image_size=16,
            convert=dict(levels='resolution', exclude=['down.0.conv']),
        )
    )
    assert {record.name: record.level for record in wrapper.records} == {
        'down.0.conv': None,
        'down.1.conv': 1,
        'down.2.conv': 1,
        'down.3.conv': 1,
        'down.4.conv': 1,
        'up.0.conv': 1,
        'up.1.conv': 1,
        'up.2.conv': 1,
        'up.3.conv': 0,
    }


def test_warns_once_of_a_reconstruction_loss_that_nothing_takes():
    wrapper = make_wrapper()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        wrapper(images())
        reconstruction_loss(wrapper)
        wrapper(images())
        wrapper.eval()(images())
        make_wrapper(reconstruction_weight=0)(images())
    wrapper.train()
    with pytest.warns(UserWarning, match=r"dict\(type='ReconstructionLossHook'\) to custom_hooks"):
        wrapper(images())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        wrapper(images())


def test_init_weights_leaves_frozen_filters():
    wrapper = make_wrapper(dict(type=Backbone))
    freeze_convs_(wrapper.backbone, wrapper.generator.mean_codes([images()]))
    expected = wrapper.eval()(images())
    wrapper.load_state_dict(wrapper.state_dict())
    Outer(wrapper, OUTER).init_weights()
    torch.testing.assert_close(wrapper(images()), expected)


def test_refuses_a_converted_backbone():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3))
    fg_plugin.convert_(backbone, mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 16, 16))
    with pytest.raises(ValueError, match=r'backbone should be a plain network, but got a FGSequential.*revert_'):
        make_wrapper(backbone)


def test_refuses_a_backbone_with_a_converted_part():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    # Codes of the same lengths as the wrapper's.
    fg_plugin.convert_(network, mean=(0, 0, 0), std=(1, 1, 1), input_size=(3, 16, 16), encoder=((4, 1), (6, 2)))
    with pytest.raises(ValueError, match=r"should be a plain network, but got a FGSequential as its '0'.*revert_"):
        make_wrapper(nn.Sequential(network), convert=None)


def test_refuses_a_convolution_as_backbone():
    with pytest.raises(ValueError, match=r'got a Conv2d itself\. Put it into an nn\.Sequential'):
        make_wrapper(nn.Conv2d(3, 4, 3))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(input_mean=(0.5, 0.5, 0.5)), 'input_mean and input_std should be given together'),
        (dict(input_mean=(0.5,), input_std=(0.2,)), 'input_mean should hold 3 values'),
        (dict(input_mean=(0.5,) * 3, input_std=(58.4,) * 3), r'input_std should hold 3 values for pixels in \[0, 1\]'),
        (dict(convert=dict(include=['conv3'])), "'conv3' matches none of the 2 convolutions. Closest names: conv"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_wrapper(**options)


@pytest.mark.parametrize('reconstruction_weight', [0, 1])
@pytest.mark.parametrize('convert', [dict(exclude=['conv2']), dict(levels={'*': 1})])
def test_levels_that_drive_no_convolution_leave_no_parameter_without_a_gradient(convert, reconstruction_weight):
    decoder = None if reconstruction_weight == 0 else ('up',)
    wrapper = make_wrapper(
        autoencoder=dict(type='Autoencoder', in_channels=3, kernel_size=3, encoder=((4, 1), (6, 2)), decoder=decoder),
        convert=dict(init='orthogonal', **convert),
        reconstruction_weight=reconstruction_weight,
    ).train()
    loss = sum(feature.sum() for feature in wrapper(images())) + reconstruction_loss(wrapper)
    loss.backward()
    assert [name for name, parameter in wrapper.named_parameters() if parameter.grad is None] == []
