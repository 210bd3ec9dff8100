import re
import warnings
from pathlib import Path

import pytest

from fg_plugin.compat.supported_versions import (
    SUPPORTED,
    UnsupportedVersionWarning,
    check_versions,
    installed_versions,
)

PYPROJECT = Path(__file__).parents[2] / 'pyproject.toml'


@pytest.mark.parametrize(
    'versions',
    [
        {},
        {'mmengine': '0.10.7', 'mmcv-lite': '2.2.0', 'mmpretrain': '1.2.0'},
        {'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'onedl-mmsegmentation': '1.4.9'},
        {'mmcv-full': '2.2.0'},
    ],
)
def test_supported_versions_pass(versions):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_versions(versions)


def test_one_warning_names_all_that_are_outside():
    with pytest.warns(UnsupportedVersionWarning) as caught:
        check_versions({'mmpretrain': '1.1.1', 'mmengine': '0.10.7', 'mmcv-lite': '2.3.0'})
    assert len(caught) == 1
    message = str(caught[0].message)
    assert 'mmpretrain 1.1.1 (supported: >= 1.2.0, < 1.3)' in message
    assert 'mmcv-lite 2.3.0 (supported: >= 2.2.0, < 2.3)' in message
    assert 'mmengine' not in message


@pytest.mark.parametrize('name', ['mmcv', 'mmcv-full', 'mmcv-lite'])
def test_mmcv_1_is_refused(name):
    with pytest.raises(ImportError, match=rf'{name} should be of version >= 2.0, but 1.7.2 is installed'):
        check_versions({name: '1.7.2'})


def test_what_is_installed_here_is_supported():
    versions = installed_versions()
    assert {'mmengine', 'onedl-mmengine'} & versions.keys()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_versions(versions)


def test_the_extras_ask_for_supported_versions():
    minimums = dict(re.findall(r"'((?:onedl-)?mm\w+(?:-lite)?)>=([\d.]+)'", PYPROJECT.read_text()))
    assert len(minimums) == 4
    assert {name: SUPPORTED[name][0] for name in minimums} == minimums
