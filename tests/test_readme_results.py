"""The tables of results in README.md hold the numbers of the logs in results/."""

import json
import re
import statistics
from pathlib import Path

import pytest

from fg_plugin.reproduction.paper import TABLES
from fg_plugin.reproduction.runs import finished_runs
from fg_plugin.reproduction.unseen_rotations import load_unseen_rotations
from fg_plugin.studies.page import with_numbers

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / 'results'
# Config of the generated filters: config of the baseline, metric.
EXPERIMENTS = {
    'fg_mnist_nenc20_s5': ('mnist_baseline', 'accuracy/top1'),
    'fg_unet_mtfl': ('unet_mtfl', 'NME/AVG'),
    'fg_unet_mtfl_light': ('unet_mtfl', 'NME/AVG'),
    'fg_unet64_mtfl': ('unet64_mtfl', 'NME/AVG'),
    'fg_cifar10': ('cifar10_baseline', 'accuracy/top1'),
}
STUDIES = {
    'MNIST, corrupted more strongly than in training': ('mnist_corrupted', ':unseen'),
    'CIFAR-10, corrupted more strongly than in training': ('cifar10_16_corrupted', ':unseen'),
    'CIFAR-10': ('cifar10_16', ''),
    'CIFAR-10, rotated': ('cifar10_16_rotated', ''),
    'CIFAR-10, augmented, 20 epochs': ('cifar10_16_augmented', ''),
    'MNIST, rotated': ('mnist_rotated', ''),
}
ARMS = {
    'low-rank (default)': 'lowrank_static_start',
    'residual': 'residual_static_start',
    'full': 'full_static_start',
    'static, the MACs of full': 'wide_macs',
    'static, the parameters of full': 'wide_parameters',
    'squeeze-and-excitation': 'se',
    '`CondConv2d`': 'condconv',
    'images standardised': 'standardised',
}


def table(heading):
    """Return the rows of the table whose first column has a heading: cells by column."""
    lines = iter((ROOT / 'README.md').read_text(encoding='utf-8').splitlines())
    header = next(line for line in lines if line.startswith(f'| {heading} | '))
    next(lines)
    rows = []
    while (line := next(lines)).startswith('| '):
        rows.append([cell.strip() for cell in line.split('|')[1:-1]])
    columns = [cell.strip() for cell in header.split('|')[1:-1]]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def config_of(cell):
    return re.findall('`(.+?)`', cell)[-1]


def metrics_of(config):
    return [run.metrics['metrics'] for run in finished_runs(config, RESULTS / 'runs')[None]]


def test_the_papers_experiments():
    rows = {config_of(row['data']): row for row in table('data | measure')}
    assert rows.keys() == EXPERIMENTS.keys()
    for config, (baseline, metric) in EXPERIMENTS.items():
        for column, name in (('baseline', baseline), ('generated filters', config)):
            values = [metrics[metric] for metrics in metrics_of(name)]
            assert rows[config][column] == f'{statistics.fmean(values):.2f} % (n = {len(values)})'
        swapped, runs = 'swap/' + metric.replace('/', '_'), metrics_of(config)
        values = [metrics[swapped] for metrics in runs if swapped in metrics]
        seeds = '' if len(values) == len(runs) else f' (n = {len(values)})'
        assert rows[config]["with another image's filters"] == f'{statistics.fmean(values):.2f} %{seeds}'
        for cell, name in zip(rows[config]['parameters'].split(', '), (baseline, config), strict=True):
            number, unit = cell.split()
            parameters = float(number) * {'k': 1e3, 'M': 1e6}[unit]
            for run in finished_runs(name, RESULTS / 'runs')[None]:
                assert parameters == pytest.approx(run.metrics['parameters'], rel=0.05)


def test_faces_at_equal_cost():
    def shown(values, digits):
        parts = [f'{statistics.fmean(values):.{digits}f}']
        if len(values) > 1:
            parts.append(f'± {statistics.stdev(values):.{digits}f}')
        if len(values) < 3:
            parts.append(f'(n = {len(values)})')
        return ' '.join(parts)

    labels = {config: label for label, config in TABLES['faces'].columns.items()}
    costs = json.loads((RESULTS / 'faces_costs.json').read_text())['columns']
    unseen = load_unseen_rotations(RESULTS)
    rows = table('network | to 45 degrees')
    assert len(rows) > 9
    for row in rows:
        config = config_of(row['network'])
        label = labels[config]
        assert row['to 45 degrees'] == shown([metrics['NME/AVG'] for metrics in metrics_of(config)], 2)
        assert row['45 to 60 degrees'] == shown([result['unseen']['mean'] for result in unseen[label].values()], 1)
        macs = costs[label]['macs'] / costs['Model32']['macs']
        assert float(row['MACs']) == pytest.approx(macs, abs=0.005)
        for column, key in (('training time', 'training'), ('inference time', 'inference')):
            assert float(row[column]) == pytest.approx(costs[label][key], abs=0.05)


def test_studies():
    rows = {row.pop('images'): row for row in table('images')}
    assert rows.keys() == STUDIES.keys()
    for images, (data, key) in STUDIES.items():
        assert rows[images].keys() == ARMS.keys()
        for column, cell in rows[images].items():
            number = with_numbers(f'{{{data}/{ARMS[column]}{key}}}', RESULTS / 'studies')
            assert cell == ('' if number == '(no result)' else number)
