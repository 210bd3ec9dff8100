import argparse
import math

import pytest
from mmengine.config import DictAction

from fg_plugin.command_line import add_model_arguments
from fg_plugin.key_values import key_value


def options(*arguments):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    return dict(parser.parse_args(['fg_resnet18', 'weights.pth', *arguments]).options)


@pytest.mark.parametrize(
    'text',
    [
        *('false', 'True', 'TRUE', 'None', 'none', '8', '-8', '0x8', '1_000', '1e-3', '.5', 'inf', 'text', 'a=b', ''),
        *('1,2', 'a,b', '1,', ',1', '1,,2', '[a,b]', '(a,b)', '[1]', '[]', '()', '[1, 2]', '[(1,2),[a,true],c]'),
        *("'8'", '"8"', "['a','b']", "('a', None)", '(3,32,32)', 'a(b', 'fg_*.pth', '1,[2,(3,4)],5', '[[1]]'),
        *('a[0],b', '{a}', '[2,2],', '(', 'data/x.npz'),
    ],
)
def test_values_are_those_of_mmengine(text):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    expected = parser.parse_args(['--cfg-options', f'key={text}']).cfg_options
    assert repr(options('--cfg-options', f'key={text}')) == repr(expected)
    assert repr(options('--model-kwargs', f'key={text}')) == repr(expected)


def test_a_mapping_which_mmengine_cannot_read():
    text = "fg_levels={'conv1': 0, 'layer*': 1}"
    assert options('--model-kwargs', text) == {'fg_levels': {'conv1': 0, 'layer*': 1}}


@pytest.mark.parametrize(
    ('text', 'value'), [('my runs/w.pth', 'my runs/w.pth'), ("'a b'", 'a b'), (' 8 ', 8), ('1, 2', [1, 2])]
)
def test_blanks_within_a_text_are_kept(text, value):
    assert options('--cfg-options', f'key={text}') == {'key': value}


def test_not_a_number():
    assert math.isnan(key_value('key=nan')[1])


def test_options_add_up():
    assert options('--cfg-options', 'a=1', 'b=2', '--cfg-options', 'b=3', '--model-kwargs', 'c=4') == dict(
        a=1, b=3, c=4
    )


@pytest.mark.parametrize('text', ['[(1,2]', '1,[2', '1,2],[3', '(1),(2)'])
def test_unbalanced_brackets_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        options('--cfg-options', f'key={text}')
    assert f"brackets should be balanced, but got 'key={text}'" in capsys.readouterr().err
