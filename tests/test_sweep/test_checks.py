"""The checks of the sweep: tiny architectures pass, and what is broken on purpose is reported."""

import pytest
import torch

from fg_plugin import convert, generated_methods
from fg_plugin.conditioning import Conditioning
from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.coefficient_heads import LowRankHead
from fg_plugin.sweep import shapes, values
from fg_plugin.sweep.workers import run_check


def test_shapes_of_a_tiny_architecture():
    record = run_check(shapes.check_shapes, 'test_resnet')
    assert record.passed, record.failures
    facts = record.facts
    assert (facts['convs'], facts['converted'], facts['skipped']) == (15, 15, {})
    assert facts['parameters'][0] < facts['parameters'][1]
    assert 1 < facts['memory_ratio'] == facts['saved_bytes'][1] / facts['saved_bytes'][0] < 1.5


@pytest.mark.parametrize('name', ['test_resnet', 'test_vit'])
def test_values_of_a_tiny_architecture(name):
    record = run_check(values.check_values, name)
    assert record.passed, record.failures
    assert record.facts['input_size'] == [3, 96, 96]
    assert record.facts['float32'] < 1e-5
    assert record.facts['float64'] < 1e-12
    assert record.facts['moved'] > 1e-3
    assert record.facts['swapped'] > 1e-3


def test_a_memory_ratio_over_the_limit_is_reported(monkeypatch):
    monkeypatch.setattr(shapes, 'MAX_MEMORY_RATIO', 1.05)
    record = run_check(shapes.check_shapes, 'test_resnet')
    assert [failure[:17] for failure in record.failures] == ['activations need ']


def test_a_module_that_revert_forgets_is_reported(monkeypatch):
    def revert_(model):
        model.layer1[0].conv1 = torch.nn.Identity()
        convert.revert_(model)

    monkeypatch.setattr(shapes, 'revert_', revert_)
    record = run_check(shapes.check_shapes, 'test_resnet')
    assert record.failures == ['revert_ does not give the modules, keys and parameters of the host back']


def test_a_conversion_that_changes_the_output_is_reported(monkeypatch):
    def convert_(model, **options):
        records = convert.convert_(model, **options)
        next(module for module in model.modules() if isinstance(module, LowRankHead)).scale.bias.data.fill_(1e-4)
        return records

    monkeypatch.setattr(values, 'convert_', convert_)
    failures = run_check(values.check_values, 'test_resnet').failures
    assert failures[0].startswith('float64: the relative error should be below 1e-12, but is ') or failures[
        0
    ].startswith('float32: ')


def test_filters_of_other_samples_are_reported(monkeypatch):
    def condition_on(model, images):
        return Conditioning(model, tuple(code.flip(0) for code in model.fg_generator(images)))

    monkeypatch.setattr(generated_methods, 'condition_on', condition_on)
    failures = run_check(values.check_values, 'test_resnet').failures
    assert [failure.partition(':')[0] for failure in failures] == ['alone']


def test_filters_that_do_not_differ_are_reported(monkeypatch):
    monkeypatch.setattr(values, 'perturb_heads_', lambda model: None)
    failures = [failure.partition(':')[0] for failure in run_check(values.check_values, 'test_resnet').failures]
    assert failures[:2] == ['moved', 'swapped']


def test_parameters_without_a_gradient_are_reported(monkeypatch):
    original = FilterRepoConv.coefficients

    def coefficients(self):
        found = original(self)
        return found._replace(left=found.left.detach()) if self.name == 'conv1.0' else found

    monkeypatch.setattr(FilterRepoConv, 'coefficients', coefficients)
    failures = run_check(values.check_values, 'test_resnet').failures
    assert failures == [
        "3 parameters get no gradient, zero or NaN: ['conv1.0.coefficient_head.left', "
        "'conv1.0.coefficient_head.scale.weight', 'conv1.0.coefficient_head.scale.bias']"
    ]


def test_another_weight_after_revert_is_reported(monkeypatch):
    def revert_(model):
        convert.revert_(model)
        model.fc.bias.data[0] += 1e-3

    monkeypatch.setattr(values, 'revert_', revert_)
    failures = run_check(values.check_values, 'test_resnet').failures
    assert failures == [
        "revert_ leaves other values in 1 tensors: ['fc.bias']",
        'after revert_ the output is not that of the host bit for bit',
    ]


def test_a_host_without_numbers_to_compare_is_reported(monkeypatch):
    def silence_(model):
        for parameter in model.fc.parameters():
            parameter.data.zero_()

    monkeypatch.setattr(values, 'randomise_constants_', silence_)
    failures = run_check(values.check_values, 'test_resnet').failures
    assert failures == ['the host itself computes no numbers to compare with: zeros, infinities or NaN']
