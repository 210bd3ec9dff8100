import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from fg_plugin.reproduction.runs import RunError
from fg_plugin.reproduction.unseen_rotations import result_path

ROOT = Path(__file__).parents[2]

# What a report is made of, besides the runs.
INPUTS = ('remarks.json', 'fig5.json', 'fig5.png', 'studies.md', 'faces_costs.json')


@pytest.fixture
def reproduce(monkeypatch, capsys, tmp_path):
    """Runs tools/reproduce.py on a copy of the results; returns what it prints."""
    for folder in ('runs', 'worst', 'unseen_rotations'):
        shutil.copytree(ROOT / 'results' / folder, tmp_path / 'results' / folder)
    for name in INPUTS:
        shutil.copy(ROOT / 'results' / name, tmp_path / 'results')

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['reproduce.py', *arguments, '--results', str(tmp_path / 'results')])
        runpy.run_path(str(ROOT / 'tools' / 'reproduce.py'), run_name='__main__')
        return capsys.readouterr().out

    return call


def test_missing_runs_are_listed_seed_by_seed(reproduce, tmp_path):
    shutil.rmtree(tmp_path / 'results' / 'runs')
    listed = reproduce('table1', '--dry-run').splitlines()
    assert len(listed) == 4 * 5
    assert listed[:2] == ['mnist_baseline/seed0', 'fg_mnist_nenc5_s5/seed0']
    assert (
        reproduce('table1', '--dry-run', '--seeds', '7', '--epochs', '3').splitlines()[0] == 'mnist_baseline-3ep/seed7'
    )
    assert len(reproduce('all', '--dry-run').splitlines()) == 6 * 5 + 17 * 3 + 5 * 3
    # As many epochs as the config has are no other run.
    assert reproduce('fig5', '--dry-run', '--epochs', '20').splitlines() == ['fg_mnist_nenc20_s5/seed0']


def test_a_report_measures_nothing(reproduce, capsys):
    with pytest.raises(SystemExit):
        reproduce('faces', '--report', '--costs')
    assert 'argument --costs: not allowed with argument --report' in capsys.readouterr().err


def test_relative_folders_are_those_of_the_caller(monkeypatch, tmp_path):
    seen = []

    def stop(name, root, work_dirs, results):
        seen.extend([work_dirs, results])
        raise RunError('enough')

    monkeypatch.setattr('fg_plugin.reproduction.runs.train', stop)
    monkeypatch.chdir(tmp_path)
    arguments = ['reproduce.py', 'table1', '--seeds', '0', '--work-dirs', 'work', '--results', 'kept']
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit, match='enough'):
        runpy.run_path(str(ROOT / 'tools' / 'reproduce.py'), run_name='__main__')
    # The trainings run in the checkout.
    assert seen == [tmp_path / 'work', tmp_path / 'kept' / 'runs']


@pytest.mark.parametrize(('figure', 'table'), [('worst', 'fig3'), ('unseen', 'faces')])
def test_what_is_tested_again_needs_a_run_with_its_checkpoint(reproduce, tmp_path, figure, table):
    with pytest.raises(SystemExit, match=rf'need a finished run of {table} with its checkpoint in .*there is none'):
        reproduce(figure, '--work-dirs', str(tmp_path / 'work_dirs'))


def test_runs_are_tested_on_unseen_rotations_once(reproduce, monkeypatch, tmp_path):
    tested = []

    def measure(name, root, work_dirs, data_root, unseen_root, results):
        tested.append((str(name.folder), data_root.name, unseen_root.name))
        return shutil.copy(next((ROOT / 'results' / 'unseen_rotations').rglob('*.json')), result_path(name, results))

    monkeypatch.setattr('fg_plugin.reproduction.unseen_rotations.measure_unseen_rotations', measure)
    shutil.rmtree(tmp_path / 'results' / 'unseen_rotations')
    folder = tmp_path / 'results' / 'unseen_rotations' / 'unet_mtfl'
    folder.mkdir(parents=True)
    for seed in range(3):
        work_dir = tmp_path / 'work_dirs' / 'unet_mtfl' / f'seed{seed}'
        work_dir.mkdir(parents=True)
        # That of seed 2 has not ended.
        if seed < 2:
            (work_dir / 'metrics.json').touch()
    arguments = ('unseen', '--work-dirs', str(tmp_path / 'work_dirs'), '--mtfl-unseen-dir', 'further')
    reproduce(*arguments, '--seeds', '1')
    reproduce(*arguments)
    data = ('mtfl_64', 'further')
    assert tested == [('unet_mtfl/seed1', *data), ('unet_mtfl/seed0', *data)]


def test_the_committed_pages_are_those_of_the_committed_runs(reproduce, tmp_path):
    reproduce('all', '--report')
    assert (tmp_path / 'RESULTS.md').read_text() == (ROOT / 'RESULTS.md').read_text()
    tables = [path for path in (tmp_path / 'results').glob('*.json') if path.name not in INPUTS]
    assert tables
    for path in tables:
        assert json.loads(path.read_text()) == json.loads((ROOT / 'results' / path.name).read_text())
        assert path.with_suffix('.png').is_file()
