import pytest
from test_sweep.failing_checks import check

from fg_plugin.sweep.workers import run_check, run_checks


def test_an_exception_is_a_failure_with_its_place():
    record = run_check(check, 'raises')
    assert not record.passed
    assert record.failures[0].startswith('ValueError: a reason (check, line ')
    assert record.facts == {'length': 6}


@pytest.mark.parametrize('processes', [1, 2])
def test_crash_and_timeout_are_failures_of_one_architecture_only(processes):
    names = ['first', 'crashes', 'exits', 'hangs', 'fails', 'last']
    records = {record.architecture: record for record in run_checks(check, names, processes, timeout=3)}
    assert {name: record.failures for name, record in records.items()} == {
        'first': [],
        'crashes': ['the process crashed (SIGABRT)'],
        'exits': ['the process crashed (exit code 3)'],
        'hangs': ['not finished after 3 s'],
        'fails': ['does not hold'],
        'last': [],
    }
    assert records['last'].facts == {'length': 4}


def test_nothing_to_check_needs_no_process():
    assert list(run_checks(check, [], 2, timeout=1)) == []
