import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from fg_plugin.studies.arms import STUDIES
from fg_plugin.studies.page import NO_RESULT

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'results'


def test_a_study_of_two_networks_on_digits(run_tool, tmp_path):
    arguments = ['cost', '--arms', 'static', 'lowrank', '--seeds', '0', '--epochs', '1', '--results', tmp_path]
    first = run_tool('study', *arguments, '--work-dir', tmp_path / 'work', '--costs')
    assert first.returncode == 0, first.stderr
    assert '[2/2] lowrank seed 0: test ' in first.stdout
    again = run_tool('study', *arguments, '--work-dir', tmp_path / 'work')
    assert again.stdout == ''
    page = (tmp_path / 'studies.md').read_text()
    assert '### digits' in page
    costs = json.loads((tmp_path / 'studies' / 'digits' / 'costs.json').read_text())['arms']
    assert costs['static']['training'] == costs['static']['inference'] == 1
    assert costs['lowrank']['parameters'] > costs['static']['parameters'] > 60_000
    assert f'{costs["lowrank"]["parameters"]:,}' in page
    more = ['--arms', 'residual', '--results', tmp_path, '--work-dir', tmp_path / 'work', '--costs']
    assert run_tool('study', 'cost', *more, '--seeds', '0', '--epochs', '1').returncode == 0
    costs = json.loads((tmp_path / 'studies' / 'digits' / 'costs.json').read_text())['arms']
    assert set(costs) == {'static', 'lowrank', 'residual'}


def test_what_another_process_trained_meanwhile_is_left_alone(monkeypatch, tmp_path):
    trained = []

    def train_beside_another_process(cells, arm, seed):
        trained.append(arm)
        for other in ('static', 'lowrank'):
            path = cells.folder / other / f'seed{seed}.json'
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({'test': 90.0, 'train': 99.0, 'recipe': {'epochs': 10}}))
        return {'test': 90.0}

    monkeypatch.setattr('fg_plugin.studies.cells.Cells.train', train_beside_another_process)
    arguments = ['cost', '--arms', 'static', 'lowrank', '--seeds', '0', '--results', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['study.py', *arguments])
    runpy.run_path(str(ROOT / 'tools' / 'study.py'), run_name='__main__')
    assert trained == ['static']


def test_a_resnet_leaves_out_what_is_made_from_the_plain_network_alone(monkeypatch, tmp_path):
    trained = []

    def keep(cells, arm, seed):
        trained.append(arm)
        path = cells.folder / arm / f'seed{seed}.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({'test': 90.0, 'train': 99.0, 'recipe': {'epochs': 10}}))
        return {'test': 90.0}

    monkeypatch.setattr('fg_plugin.studies.cells.Cells.train', keep)
    arguments = ['cost', '--network', 'resnet18', '--seeds', '0', '--results', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['study.py', *arguments])
    runpy.run_path(str(ROOT / 'tools' / 'study.py'), run_name='__main__')
    assert trained == [arm for arm in STUDIES['cost'] if arm not in ('condconv', 'stem')]


def test_costs_of_networks_that_no_figure_shows(run_tool, tmp_path):
    arguments = ['heads', '--arms', 'lowrank_rank2', '--seeds', '0', '--epochs', '1', '--results', tmp_path, '--costs']
    ended = run_tool('study', *arguments, '--work-dir', tmp_path / 'work')
    assert ended.returncode == 0, ended.stderr
    assert '| FG, low rank (2) ' in (tmp_path / 'studies.md').read_text()
    assert not (tmp_path / 'studies' / 'digits.png').exists()


def test_the_committed_page_is_that_of_the_committed_results(run_tool, tmp_path):
    shutil.copytree(RESULTS / 'studies', tmp_path / 'studies', ignore=shutil.ignore_patterns('*.png'))
    shutil.copy(RESULTS / 'remarks.json', tmp_path)
    assert run_tool('study', 'all', '--report', '--results', tmp_path).returncode == 0
    page = (tmp_path / 'studies.md').read_text()
    assert page == (RESULTS / 'studies.md').read_text()
    assert NO_RESULT not in page


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['cost', '--data', 'mnist_turned'], 'invalid choice'),
        (['warm', '--data', 'mnist'], 'MNIST is incomplete'),
        (['cost', '--costs', '--report'], 'argument --report: not allowed with argument --costs'),
        (
            ['cost', '--arms', 'static', 'warm_full'],
            "--arms should be networks of cost, but got warm_full, of ['warm']",
        ),
        (
            ['cost', '--network', 'resnet18', '--arms', 'static', 'condconv'],
            '--arms should be networks that are made from resnet18, but got condconv, of plain',
        ),
        (['cost', '--report'], 'should hold results of studies'),
    ],
)
def test_bad_input(run_tool, tmp_path, arguments, message):
    failed = run_tool('study', *arguments, '--results', tmp_path, '--data-root', tmp_path)
    assert failed.returncode != 0
    assert message in failed.stderr
    assert 'Traceback' not in failed.stderr
