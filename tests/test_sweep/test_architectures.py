import pytest
import timm

from fg_plugin.sweep.architectures import choose_architectures, measure_size, smallest_of_each_class
from fg_plugin.sweep.record import Record
from fg_plugin.sweep.workers import run_check


def test_all_registered_architectures_by_default():
    names = choose_architectures()
    assert len(names) == len(timm.list_models('fg_*')) > 1000
    assert 'resnet18' in names
    assert not any(name.startswith('fg_') for name in names)


@pytest.mark.parametrize(
    ('only', 'names'),
    [
        ('resnet18', ['resnet18']),
        ('fg_resnet18', ['resnet18']),
        ('resnet18[ds]', ['resnet18d']),
        ('fg_test_res*', ['test_resnet']),
    ],
)
def test_a_name_or_a_pattern(only, names):
    assert choose_architectures(only) == names


@pytest.mark.parametrize(
    ('only', 'message'),
    [
        ('fg_resnt18', r'Closest names: resnet18, '),
        ('naflexvit_base_patch16_gap', r'has no nn\.Conv2d'),
        ('nothing*', r"--only should match some of the \d+ registered architectures, but 'nothing\*' matches none"),
    ],
)
def test_unknown_names(only, message):
    with pytest.raises(ValueError, match=message):
        choose_architectures(only)


def test_the_smallest_architecture_of_each_class():
    names = ['resnet34', 'resnet18', 'test_vit2', 'test_vit', 'resnet18d']
    records = [run_check(measure_size, name) for name in names]
    assert {record.facts['model_class'] for record in records} == {
        'timm.models.vision_transformer.VisionTransformer',
        'timm.models.resnet.ResNet',
    }
    assert smallest_of_each_class(records) == ['test_vit', 'resnet18']
    failed = Record('resnet10t', ['the process timed out'], {}, 1.0)
    with pytest.raises(ValueError, match=r'size of resnet10t .* failed \(the process timed out\): remove its line'):
        smallest_of_each_class([*records, failed])
