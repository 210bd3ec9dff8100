import contextlib
import json
import multiprocessing
import shutil
import time

import pytest

from fg_plugin.reproduction.paper import TABLES, Quantity
from fg_plugin.reproduction.runs import (
    Run,
    RunError,
    RunInProgressError,
    RunName,
    finished_runs,
    is_finished,
    last_checkpoint,
    train,
)

TRAIN = """
import json, pathlib, sys, time
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
work_dir.mkdir(parents=True, exist_ok=True)
with (work_dir / 'calls').open('a') as file:
    file.write(' '.join(sys.argv) + '\\n')
while {waits} and not pathlib.Path('go').exists():
    time.sleep(0.05)
if len((work_dir / 'calls').read_text().splitlines()) == {fails}:
    sys.exit(3)
seed = int(sys.argv[-1].partition('=')[2]) if 'seed' in sys.argv[-1] else 0
(work_dir / 'metrics.json').write_text(json.dumps(dict(epochs=2, seed=seed, metrics={{'acc': 90.0 + seed}})))
(work_dir / 'curves.json').write_text(json.dumps(dict(train=[], val=[])))
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose tools/train.py only writes the logs.

    It fails at its first call for ``fails=1``, and waits for a file named go where it should.
    """

    def make(fails=0, waits=False):
        (tmp_path / 'tools').mkdir()
        (tmp_path / 'tools' / 'train.py').write_text(TRAIN.format(fails=fails, waits=waits))
        return tmp_path

    return make


def test_a_run_leaves_its_logs_and_is_not_repeated(checkout):
    root = checkout()
    name = RunName('net', seed=3)
    for _ in range(2):
        train(name, root, root / 'work', root / 'runs')
    calls = (root / 'work' / 'net' / 'seed3' / 'calls').read_text().splitlines()
    expected = 'tools/train.py configs/net.py --work-dir work/net/seed3 --resume --cfg-options randomness.seed=3'
    assert calls == [expected]
    ((run,),) = finished_runs('net', root / 'runs').values()
    assert (run.seed, run.metrics['metrics']) == (3, {'acc': 93.0})


def test_a_failed_run_is_resumed(checkout):
    root = checkout(fails=1)
    name = RunName('net', seed=0, epochs=2)
    with pytest.raises(RunError, match=r'net-2ep/seed0 ended with status 3; the next call resumes it'):
        train(name, root, root / 'work', root / 'runs')
    assert not is_finished(name, root / 'runs')
    train(name, root, root / 'work', root / 'runs')
    assert is_finished(name, root / 'runs')
    assert 'train_cfg.max_epochs=2' in (root / 'work' / 'net-2ep' / 'seed0' / 'calls').read_text()


def test_a_run_that_another_process_trains_is_left_alone(checkout):
    root = checkout(waits=True)
    name = RunName('net', seed=0)
    arguments = (name, root, root / 'work', root / 'runs')
    calls = root / 'work' / name.folder / 'calls'
    other = multiprocessing.get_context('spawn').Process(target=train, args=arguments)
    other.start()
    while not calls.is_file():
        time.sleep(0.05)
    with pytest.raises(RunInProgressError, match=r'net/seed0 is being trained by another process'):
        train(*arguments)
    # The training itself goes on where the process that started it is killed.
    other.kill()
    other.join()
    with pytest.raises(RunInProgressError):
        train(*arguments)
    (root / 'go').touch()
    while not is_finished(name, root / 'runs'):
        with contextlib.suppress(RunInProgressError):
            train(*arguments)
    assert len(calls.read_text().splitlines()) == 2


def test_an_incomplete_folder_of_logs_is_completed(checkout):
    root = checkout()
    name = RunName('net', seed=3)
    folder = root / 'runs' / name.folder
    folder.mkdir(parents=True)
    (folder / 'metrics.json').write_text('{"of": "another run"}')
    train(name, root, root / 'work', root / 'runs')
    assert sorted(path.name for path in folder.iterdir()) == ['curves.json', 'metrics.json']
    ((run,),) = finished_runs('net', root / 'runs').values()
    assert run.metrics['metrics'] == {'acc': 93.0}


def test_a_training_that_has_not_ended_has_no_last_checkpoint(tmp_path):
    name = RunName('toy', 0)
    folder = tmp_path / 'work_dirs' / name.folder
    folder.mkdir(parents=True)
    (folder / 'epoch_2.pth').touch()
    (folder / 'last_checkpoint').write_text('/elsewhere/epoch_2.pth')
    arguments = (name, tmp_path / 'work_dirs', tmp_path / 'results', 'The test')
    with pytest.raises(FileNotFoundError, match=r'The test needs .* toy/seed0, but the training in .* has not ended'):
        last_checkpoint(*arguments)
    (folder / 'metrics.json').touch()
    assert last_checkpoint(*arguments) == folder / 'epoch_2.pth'


def test_other_folders_are_no_runs(checkout):
    root = checkout()
    train(RunName('net', seed=3), root, root / 'work', root / 'runs')
    for copy in ('seed3_old', 'seed', 'seed03', 'seed-3'):
        shutil.copytree(root / 'runs' / 'net' / 'seed3', root / 'runs' / 'net' / copy)
    ((run,),) = finished_runs('net', root / 'runs').values()
    assert run.seed == 3


def test_schedules_are_told_apart(tmp_path):
    for folder in ('net', 'net-5ep', 'net-10ep', 'net-other', 'network'):
        for seed in (10, 2):
            path = tmp_path / folder / f'seed{seed}'
            path.mkdir(parents=True)
            for log in ('metrics.json', 'curves.json'):
                (path / log).write_text(json.dumps({}))
    (tmp_path / 'net' / 'seed3').mkdir()
    runs = finished_runs('net', tmp_path)
    assert {key: [run.seed for run in group] for key, group in runs.items()} == {None: [2, 10], 5: [2, 10], 10: [2, 10]}


def test_training_metrics_are_means_over_iterations():
    # Means of 50, 50 and 10 iterations in each epoch.
    points = enumerate([(50, 80.0), (100, 90.0), (110, 100.0), (160, 70.0), (210, 60.0), (220, 0.0)])
    rows = [
        dict(epoch=end / 110, acc=value, **({'other': 1.0} if index == 5 else {})) for index, (end, value) in points
    ]
    run = Run(0, dict(epochs=2, metrics={}), dict(train=rows, val=[]))
    assert run.value(Quantity('', 'acc', epoch=1, training=True)) == pytest.approx((5 * 80 + 5 * 90 + 100) / 11)
    assert run.value(Quantity('', 'acc', training=True)) == pytest.approx((5 * 70 + 5 * 60) / 11)
    assert run.value(Quantity('', 'other', training=True)) == pytest.approx(1)
    assert run.value(Quantity('', 'other', epoch=1, training=True)) is None


def test_values_of_a_run():
    curves = dict(
        train=[dict(epoch=0.5, acc=1.0), dict(epoch=1.0, acc=2.0), dict(epoch=1.5, acc=3.0), dict(epoch=2.0, acc=5.0)],
        val=[dict(epoch=1.0, test=10.0), dict(epoch=2.0, test=20.0)],
    )
    run = Run(0, dict(epochs=2, metrics=dict(test=20.0)), curves)
    assert run.value(Quantity('', 'test')) == 20
    assert run.value(Quantity('', 'test', epoch=1)) == 10
    assert run.value(Quantity('', 'acc', training=True)) == 4
    assert run.value(Quantity('', 'acc', epoch=1, training=True)) == 1.5
    assert run.value(Quantity('', 'other')) is None
    assert run.value(Quantity('', 'test', epoch=3)) is None


def test_every_table_names_configs_that_exist(pytestconfig):
    for table in TABLES.values():
        for config in table.columns.values():
            assert (pytestconfig.rootpath / 'configs' / f'{config}.py').is_file()


def test_the_epochs_of_the_tables_are_those_of_the_configs(pytestconfig):
    pytest.importorskip('mmengine')
    from mmengine.config import Config

    for table in TABLES.values():
        for config in table.columns.values():
            path = pytestconfig.rootpath / 'configs' / f'{config}.py'
            assert Config.fromfile(path, lazy_import=False).train_cfg.max_epochs == table.epochs
