import pytest

import fg_plugin.datasets.missing_data as missing_data
from fg_plugin.datasets.missing_data import main_process_first


@pytest.mark.parametrize(
    ('is_main', 'local_rank', 'expected'),
    [
        (True, '0', ['body', 'barrier', 'barrier']),
        (False, '0', ['barrier', 'body', 'barrier']),
        (False, '1', ['barrier', 'barrier', 'body']),
    ],
)
def test_one_process_of_all_and_then_one_of_each_machine_first(monkeypatch, is_main, local_rank, expected):
    events = []
    monkeypatch.setenv('LOCAL_RANK', local_rank)
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
    assert events == ['barrier', 'barrier']
