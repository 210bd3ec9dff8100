import copy
import pickle
import threading

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from reference import generated_conv
from torch import nn

import fg_plugin.registration  # noqa: F401
from fg_plugin.generator import reconstruction_loss
from fg_plugin.layers import FilterRepoConv
from fg_plugin.wrapper import FGBackboneWrapper


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


def test_init_weights_reaches_the_repository():
    init_cfg = dict(type='Kaiming', layer='Conv2d')
    wrapper = make_wrapper(Backbone(init_cfg=init_cfg), convert=dict(init='preserve'))
    before = wrapper.backbone.conv1.weight.clone()
    wrapper.init_weights()
    assert not torch.equal(wrapper.backbone.conv1.weight, before)
    assert isinstance(wrapper.backbone.conv1, FilterRepoConv)


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
