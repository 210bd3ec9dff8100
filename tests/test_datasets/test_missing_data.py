import pytest

import fg_plugin.datasets.missing_data as missing_data
from fg_plugin.datasets.missing_data import main_process_first


@pytest.mark.parametrize(('is_main', 'expected'), [(True, ['body', 'barrier']), (False, ['barrier', 'body'])])
def test_main_process_first(monkeypatch, is_main, expected):
    events = []
    monkeypatch.setattr(missing_data, 'is_main_process', lambda: is_main)
    monkeypatch.setattr(missing_data, 'barrier', lambda: events.append('barrier'))
    with main_process_first():
        events.append('body')
    assert events == expected


def test_failure_in_the_main_process_does_not_leave_the_others_waiting(monkeypatch):
    events = []
    monkeypatch.setattr(missing_data, 'barrier', lambda: events.append('barrier'))
    with pytest.raises(OSError, match='no network'), main_process_first():
        raise OSError('no network')
    assert events == ['barrier']
