import json

import pytest


@pytest.fixture
def runs(tmp_path):
    for name, values in (('static', (90.0, 95.5)), ('generated', (93.0, 97.25))):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{'epoch': epoch, 'accuracy/top1': value} for epoch, value in enumerate(values, 1)]
        (folder / 'curves.json').write_text(json.dumps({'train': [], 'val': rows}))
        report = {'parameters': 1234, 'epochs': 2, 'seed': 0, 'metrics': {'accuracy/top1': values[-1]}}
        (folder / 'metrics.json').write_text(json.dumps(report))
    return [tmp_path / 'static', tmp_path / 'generated']


def test_table_and_picture(run_tool, runs, tmp_path):
    result = run_tool('compare_runs', *runs, '--metrics', 'accuracy/top1', '--out', tmp_path / 'out.png')
    assert result.returncode == 0, result.stderr
    assert '| static | 1,234 | 2 | 0 | 95.50 |\n| generated | 1,234 | 2 | 0 | 97.25 |' in result.stdout
    assert (tmp_path / 'out.png').read_bytes().startswith(b'\x89PNG')


def test_bad_input(run_tool, runs, tmp_path):
    unknown = run_tool('compare_runs', *runs, '--metrics', 'NME/AVG')
    assert unknown.returncode == 1
    assert "one of ['accuracy/top1'] in run 'static', but got 'NME/AVG'" in unknown.stderr
    unfinished = run_tool('compare_runs', tmp_path, '--metrics', 'accuracy/top1')
    assert unfinished.returncode == 1
    assert 'has no curves.json' in unfinished.stderr
