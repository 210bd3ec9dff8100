import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from fg_plugin.reproduction.runs import RunError, RunInProgressError
from fg_plugin.reproduction.unseen_rotations import result_path, when_trained

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


def test_what_another_process_trains_is_passed_over(reproduce, monkeypatch, tmp_path):
    trained = []

    def train(name, *folders):
        if name.config == 'fg_mnist_nenc20_s5':
            raise RunInProgressError('it is being trained elsewhere')
        trained.append(name.config)

    monkeypatch.setattr('fg_plugin.reproduction.runs.train', train)
    printed = reproduce('table1', 'fig5', '--seeds', '7', '--work-dirs', str(tmp_path / 'work_dirs'))
    assert trained == ['mnist_baseline', 'fg_mnist_nenc5_s5', 'fg_mnist_nenc10_s5']
    assert printed.count('it is being trained elsewhere') == 1


@pytest.mark.parametrize(('figure', 'table'), [('worst', 'fig3'), ('unseen', 'faces')])
def test_what_is_tested_again_needs_a_run_with_its_checkpoint(reproduce, tmp_path, figure, table):
    with pytest.raises(SystemExit, match=rf'need a finished run of {table} with its checkpoint in .*there is none'):
        reproduce(figure, '--work-dirs', str(tmp_path / 'work_dirs'))


def test_runs_are_tested_on_unseen_rotations_once(reproduce, monkeypatch, tmp_path):
    tested = []

    def measure(name, root, work_dirs, data_root, unseen_root, results):
        tested.append((str(name.folder), data_root.name, unseen_root.name))
        summary = json.loads(next((ROOT / 'results' / 'unseen_rotations').rglob('*.json')).read_text())
        path = result_path(name, results)
        path.write_text(json.dumps(summary | {'seed': name.seed, 'trained': when_trained(name, work_dirs)}))
        return path

    monkeypatch.setattr('fg_plugin.reproduction.unseen_rotations.measure_unseen_rotations', measure)
    runs = tmp_path / 'results' / 'runs' / 'unet_mtfl'
    shutil.copytree(runs / 'seed2', runs / 'seed3')
    shutil.rmtree(tmp_path / 'results' / 'unseen_rotations')
    folder = tmp_path / 'results' / 'unseen_rotations' / 'unet_mtfl'
    folder.mkdir(parents=True)
    for seed in range(4):
        work_dir = tmp_path / 'work_dirs' / 'unet_mtfl' / f'seed{seed}'
        work_dir.mkdir(parents=True)
        (work_dir / 'last_checkpoint').write_text('epoch_5.pth')
        # The training of seed 2 has not ended, the checkpoint of seed 3 was deleted.
        if seed != 2:
            (work_dir / 'metrics.json').write_text(json.dumps({'finished': f'day {seed}'}))
        if seed != 3:
            (work_dir / 'epoch_5.pth').touch()
    arguments = ('unseen', '--work-dirs', str(tmp_path / 'work_dirs'), '--mtfl-unseen-dir', 'further')
    reproduce(*arguments, '--seeds', '1')
    reproduce(*arguments, '--seeds', '0', '1', '2', '3')
    data = ('mtfl_64', 'further')
    assert tested == [('unet_mtfl/seed1', *data), ('unet_mtfl/seed0', *data)]


def test_all_leaves_out_figures_of_runs_made_elsewhere(reproduce, monkeypatch, tmp_path):
    monkeypatch.setattr('fg_plugin.reproduction.runs.train', lambda *args: None)
    monkeypatch.setattr('fg_plugin.reproduction.pictures.draw_figure6', lambda *args: None)
    arguments = ('--seeds', '1', '--work-dirs', str(tmp_path / 'work_dirs'))
    before = (tmp_path / 'results' / 'fig5.json').read_text()
    reproduce('all', *arguments)
    assert (tmp_path / 'results' / 'fig5.json').read_text() == before
    with pytest.raises(SystemExit, match=r'Figure 5 needs a checkpoint of fg_mnist_nenc20_s5/seed1'):
        reproduce('fig5', *arguments)


def test_unseen_rotations_are_of_the_configs_own_schedules(reproduce, capsys):
    with pytest.raises(SystemExit):
        reproduce('unseen', '--epochs', '3')
    assert 'the number of epochs of their configs, but got --epochs 3' in capsys.readouterr().err


def test_the_committed_pages_are_those_of_the_committed_runs(reproduce, tmp_path):
    reproduce('all', '--report')
    # That of another folder lies in it, beside its pictures.
    page = (tmp_path / 'results' / 'RESULTS.md').read_text()
    assert page.replace('](', '](results/') == (ROOT / 'RESULTS.md').read_text()
    tables = [path for path in (tmp_path / 'results').glob('*.json') if path.name not in INPUTS]
    assert tables
    for path in tables:
        assert json.loads(path.read_text()) == json.loads((ROOT / 'results' / path.name).read_text())
        assert path.with_suffix('.png').is_file()
