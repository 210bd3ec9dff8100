import json

import pytest


def make_run(folder, *values):
    folder.mkdir(parents=True)
    rows = [{'epoch': epoch, 'accuracy/top1': value} for epoch, value in enumerate(values, 1)]
    (folder / 'curves.json').write_text(json.dumps({'train': [], 'val': rows}))
    report = {'parameters': 1234, 'epochs': 2, 'seed': 0, 'metrics': {'accuracy/top1': values[-1]}}
    (folder / 'metrics.json').write_text(json.dumps(report))
    return folder


@pytest.fixture
def runs(tmp_path):
    return [make_run(tmp_path / 'static', 90.0, 95.5), make_run(tmp_path / 'generated', 93.0, 97.25)]


def test_table_and_picture(run_tool, runs, tmp_path):
    result = run_tool('compare_runs', *runs, '--metrics', 'accuracy/top1', '--out', tmp_path / 'out.png')
    assert result.returncode == 0, result.stderr
    assert '| static | 1,234 | 2 | 0 | 95.50 |\n| generated | 1,234 | 2 | 0 | 97.25 |' in result.stdout
    assert (tmp_path / 'out.png').read_bytes().startswith(b'\x89PNG')


def test_damaged_files_are_named_and_folders_made(run_tool, runs, tmp_path):
    arguments = [*runs, '--metrics', 'accuracy/top1', '--out', tmp_path / 'new' / 'curves.png']
    assert run_tool('compare_runs', *arguments).returncode == 0
    assert (tmp_path / 'new' / 'curves.png').is_file()
    (runs[0] / 'curves.json').write_text('{"val": [')
    assert 'curves.json should be a JSON file of a finished run, but is damaged' in (
        run_tool('compare_runs', *arguments).stderr
    )


def test_bad_input(run_tool, runs, tmp_path):
    unknown = run_tool('compare_runs', *runs, '--metrics', 'NME/AVG')
    assert unknown.returncode == 1
    assert "one of ['accuracy/top1'] in run 'static', but got 'NME/AVG'" in unknown.stderr
    unfinished = run_tool('compare_runs', tmp_path, '--metrics', 'accuracy/top1')
    assert unfinished.returncode == 1
    assert 'has no curves.json' in unfinished.stderr


def test_runs_of_one_folder_name_are_told_apart(run_tool, tmp_path):
    for place, value in (('a', 90.0), ('b/c', 91.0)):
        make_run(tmp_path / place / 'seed0', value)
    result = run_tool('compare_runs', 'a/seed0', 'a/../b/c/seed0', '--metrics', 'accuracy/top1', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert '| a/seed0 | 1,234 | 2 | 0 | 90.00 |\n| b/c/seed0 | 1,234 | 2 | 0 | 91.00 |' in result.stdout


def test_the_current_folder_has_its_name(run_tool, runs):
    result = run_tool('compare_runs', '.', '../generated', '--metrics', 'accuracy/top1', cwd=runs[0])
    assert '| static | 1,234 |' in result.stdout
    assert '| generated | 1,234 |' in result.stdout


def test_a_run_given_twice(run_tool, runs):
    result = run_tool('compare_runs', runs[0], '.', '--metrics', 'accuracy/top1', cwd=runs[0])
    assert result.returncode == 1
    assert f'runs should be different folders, but got {runs[0]}, . for the same one' in result.stderr


def test_a_metric_that_a_run_did_not_end_with(run_tool, runs):
    report = json.loads((runs[1] / 'metrics.json').read_text())
    (runs[1] / 'metrics.json').write_text(json.dumps({**report, 'metrics': {'NME/AVG': 1.0}}))
    result = run_tool('compare_runs', *runs, '--metrics', 'accuracy/top1')
    assert result.returncode == 1
    assert (
        "error: metrics should be among those that run 'generated' ended with (metrics.json), which are ['NME/AVG'], "
        "but got 'accuracy/top1'"
    ) in result.stderr
    assert 'Traceback' not in result.stderr
