import json
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'zoo_sweep.py'


def test_checks_go_on_where_they_were_and_are_reported(run_tool, tmp_path):
    options = ('--only', 'fg_test_res*', '--work-dir', tmp_path / 'records')
    for check in ('shapes', 'values'):
        result = run_tool('zoo_sweep', check, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        assert f'{check}: 1 of 1 architectures passed' in result.stdout
    records = {path.name: path.read_text() for path in (tmp_path / 'records').iterdir()}
    assert records.keys() == {'shapes.jsonl', 'sizes.jsonl', 'values.jsonl'}

    assert run_tool('zoo_sweep', 'values', *options).returncode == 0
    assert {path.name: path.read_text() for path in (tmp_path / 'records').iterdir()} == records

    result = run_tool('zoo_sweep', 'report', *options, '--out', tmp_path / 'zoo.json')
    assert result.returncode == 0, result.stderr
    (architecture,) = json.loads((tmp_path / 'zoo.json').read_text())['architectures']
    assert architecture['architecture'] == 'test_resnet'
    assert architecture['shapes']['facts']['converted'] == 15
    assert '| test_resnet | 15/15 |' in (tmp_path / 'zoo.md').read_text()


def test_bad_input(run_tool, tmp_path):
    unknown = run_tool('zoo_sweep', 'shapes', '--only', 'fg_resnt18')
    assert unknown.returncode == 1
    assert "'fg_resnt18' is no architecture of timm" in unknown.stderr
    assert 'Closest names: resnet18, ' in unknown.stderr
    assert 'positive, but got 0' in run_tool('zoo_sweep', 'shapes', '--processes', '0').stderr
    early = run_tool('zoo_sweep', 'report', '--work-dir', tmp_path)
    assert early.returncode == 1
    assert 'sizes.jsonl does not exist: run "python tools/zoo_sweep.py values" first' in early.stderr


def test_the_report_is_no_page(capsys):
    main = runpy.run_path(str(TOOL))['main']
    with pytest.raises(SystemExit, match='2'):
        main(['report', '--out', 'zoo.md'])
    assert 'argument --out: should be a .json file, beside which the page is written, but got zoo.md' in (
        capsys.readouterr().err
    )


def test_a_missing_progress_bar_names_its_extra(monkeypatch, tmp_path):
    for module in ('rich', 'rich.progress'):
        monkeypatch.setitem(sys.modules, module, None)
    main = runpy.run_path(str(TOOL))['main']
    with pytest.raises(SystemExit, match=r"needs rich, which is not installed: pip install 'fg-plugin\[analysis\]'"):
        main(['shapes', '--only', 'test_resnet', '--work-dir', str(tmp_path)])
