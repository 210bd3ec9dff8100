import pytest
import torch
from reset import reset_modules

from fg_plugin.layers import AEFeatureNeck
from fg_plugin.layers.ae_feature_neck import paper_reductions
from fg_plugin.layers.coefficient_heads import CODE_SECOND_MOMENT

MNIST = (((4, 4, 0), (3, 3, 1), (3, 1, 0)), ((2, 2, 0), (3, 3, 1), (3, 1, 0)))


@pytest.mark.parametrize(
    ('size', 'convs'),
    [
        (64, [(4, 4, 0), (4, 4, 0), (4, 1, 0)]),  # Table 10
        (32, [(4, 4, 0), (4, 4, 0), (2, 1, 0)]),  # Tables 11 and 17
        (16, [(4, 4, 0), (4, 1, 0)]),  # Tables 12 and 18
        (8, [(4, 4, 0), (2, 1, 0)]),  # Tables 13 and 19
        (4, [(4, 1, 0)]),  # Tables 14 and 20
    ],
)
def test_the_rule_is_that_of_the_tables(size, convs):
    assert paper_reductions(size) == convs


@pytest.mark.parametrize('reductions', [None, MNIST])
def test_reduces_to_codes(reductions):
    neck = AEFeatureNeck((20, 10), (28, 14), reductions)
    codes = neck([torch.randn(3, 20, 28, 28), torch.randn(3, 10, 14, 14)])
    assert [tuple(code.shape) for code in codes] == [(3, 20), (3, 10)]
    assert neck.code_dims == (20, 10)


@pytest.mark.parametrize('reset', [False, True])
def test_codes_start_with_the_second_moment_that_the_heads_expect(reset):
    torch.manual_seed(0)
    neck = AEFeatureNeck((64,), (16,))
    if reset:
        reset_modules(neck)
    (code,) = neck([torch.randn(64, 64, 16, 16)])
    assert not neck.levels[0].fc.bias.any()
    assert CODE_SECOND_MOMENT / 1.5 < code.square().mean() < CODE_SECOND_MOMENT * 1.5


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (((4, 4), (8,)), 'one entry per level, but got 2, 1 and 1'),
        (((4,), (28,), (((4, 4, 0),),)), r'level 0 should reduce 28x28 to 1x1, but \[\(4, 4, 0\)\] leaves 7x7'),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        AEFeatureNeck(*arguments)
