import json

import pytest

from fg_plugin.reproduction.targets import targets_page


@pytest.fixture
def keep(tmp_path):
    """Keeps the logs of a run of CIFAR-10 with a test accuracy, and one with other filters."""

    def write(config, seed, accuracy, swapped=None, epochs=12):
        path = tmp_path / config / f'seed{seed}'
        path.mkdir(parents=True)
        metrics = {'accuracy/top1': accuracy} | ({} if swapped is None else {'swap/accuracy_top1': swapped})
        (path / 'metrics.json').write_text(json.dumps(dict(epochs=epochs, parameters=1, metrics=metrics)))
        (path / 'curves.json').write_text(json.dumps(dict(train=[], val=[{'epoch': 12.0, **metrics}])))
        return tmp_path

    return write


def rows(page):
    return [line.strip('| ').split(' | ') for line in page.splitlines() if line.startswith('| ')][2:]


def test_targets_are_compared_with_the_means(keep):
    for seed, (static, generated) in enumerate([(75.0, 76.5), (76.0, 77.0), (77.0, 78.0)]):
        keep('cifar10_baseline', seed, static)
        runs = keep('fg_cifar10', seed, generated, swapped=15.0 + seed)
    assert rows(targets_page(runs)) == [
        ['CIFAR-10, lead over the baseline', 'at least +1 points', '+1.17', '3', 'yes'],
        ['CIFAR-10, with the filters of another image', 'at most 16 %', '16.00', '3', 'yes'],
    ]
    keep('vgg11_cifar10', 0, 85.0)
    keep('fg_cifar10', 3, 70.0, swapped=90.0)
    assert rows(targets_page(runs)) == [
        ['CIFAR-10, lead over the baseline', 'at least +1 points', '-0.62', '3 and 4', '**no**'],
        ['CIFAR-10, lead over VGG11', 'at least -0.3 points', '-9.62', '1 and 4', '**no**'],
        ['CIFAR-10, with the filters of another image', 'at most 16 %', '34.50', '4', '**no**'],
    ]


def test_runs_of_other_schedules_reach_no_target(keep):
    keep('cifar10_baseline', 0, 75.0)
    runs = keep('fg_cifar10-3ep', 0, 79.0, swapped=10.0, epochs=3)
    assert targets_page(runs) == ''


def test_there_is_nothing_without_runs(tmp_path):
    assert targets_page(tmp_path) == ''
