import json
import re

import pytest

from fg_plugin.sweep.page import Results, to_json, to_markdown
from fg_plugin.sweep.record import Record
from fg_plugin.sweep.shapes import MAX_MEMORY_RATIO

ENVIRONMENT = dict(python='3.12', torch='2.14', timm='1.0', cpu='A Processor', command='python sweep.py')


def shape_facts(ratio, skipped=None):
    skipped = skipped or {}
    converted = 20 - sum(skipped.values())
    return dict(convs=20, converted=converted, skipped=skipped, parameters=[100, 104], memory_ratio=ratio)


@pytest.fixture
def results():
    shapes = {
        'first': Record('first', [], shape_facts(1.12, {'a reason | with a bar': 2}), 1.0),
        'second': Record('second', ['activations need 1.72 times', 'and more'], shape_facts(1.72), 1.0),
        'third': Record('third', ['the process crashed (SIGKILL)'], {}, 1.0),
    }
    errors = dict(float32=2e-7, float64=3e-16, alone=4e-16, frozen=0.0)
    values = {'first': Record('first', [], errors, 9.0)}
    names = [*shapes, 'fourth']
    return Results(ENVIRONMENT, shapes, names), Results(ENVIRONMENT, values, ['first', 'fourth'])


def test_the_page_counts_and_names(results):
    page = to_markdown(*results)
    assert '**1 of 4 architectures pass** (1 not checked) the check of shapes' in page
    assert '**1 of 2 architectures pass** (1 not checked) the check of values' in page
    assert '| second | shapes | activations need 1.72 times<br>and more |' in page
    assert '| third | shapes | the process crashed (SIGKILL) |' in page
    assert '38 of 40 convolutions are converted' in page
    assert '| a reason \\| with a bar | 2 | 1 |' in page
    assert 'The largest: `second` 1.72, `first` 1.12.' in page
    assert '| converted and host, float32 | 2.0e-07 | 2.0e-07 | first |' in page
    assert '| first | 18/20 | 2: a reason \\| with a bar | +4.0% | 1.12 | 2e-07, 3e-16, 4e-16 |' in page
    assert '| third | failed |  |  |  |  |' in page
    assert '| fourth | not checked |  |  |  |  |' in page
    assert '`python sweep.py`; python 3.12, torch 2.14, timm 1.0; A Processor' in page


def test_a_page_without_failures_has_no_list_of_them(results):
    shapes, values = results
    page = to_markdown(shapes._replace(names=['first']), values._replace(names=['first']))
    assert '**1 of 1 architectures pass** the check of shapes' in page
    assert '## Failures' not in page
    # Nothing of the others.
    assert '18 of 20 convolutions are converted' in page
    assert 'The largest: `first` 1.12.' in page


def test_the_page_counts_architectures_up_to_each_ratio(results):
    rows = re.findall(r'\| up to ([\d.]+) \| (\d+) \|', to_markdown(*results))
    assert rows == [
        ('1.05', '0'),
        ('1.1', '0'),
        ('1.2', '1'),
        ('1.3', '1'),
        ('1.4', '1'),
        (f'{MAX_MEMORY_RATIO:g}', '1'),
    ]


def test_the_json_file_has_all_records(results):
    content = json.loads(to_json(*results))
    assert content['environment'] == {'shapes': ENVIRONMENT, 'values': ENVIRONMENT}
    first, second, third, fourth = content['architectures']
    assert first['values'] == dict(failures=[], facts=results[1].records['first'].facts, seconds=9.0)
    assert second['shapes']['failures'] == ['activations need 1.72 times', 'and more']
    assert third['values'] is None
    assert fourth == dict(architecture='fourth', shapes=None, values=None)
