"""kill -9 at any step or write, then --resume: the training ends bit for bit as if nothing had happened."""

import json
import random

import pytest
from mmengine.config import Config
from toy_runs import CONFIG, KILLED, KillAfterStep, Writing, checkpoints, differences, printed, train, trained_state

STEPS = {1: 16, 2: 8}  # of the whole training, by the number of processes
KILL_POINTS = [
    *((1, step) for step in sorted(random.Random(0).sample(range(1, STEPS[1]), 5))),
    *((2, step) for step in sorted(random.Random(1).sample(range(1, STEPS[2]), 5))),
]
WRITE_EVENTS = 88  # what happens to the files of the uninterrupted training's checkpoints, in one process


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Folders of the uninterrupted training, by the number of processes."""
    folder = tmp_path_factory.mktemp('whole')
    works = {}
    for processes in STEPS:
        works[processes] = folder / f'{processes}'
        sabotage = Writing(None, folder / f'{processes}.events')
        assert train(works[processes], processes=processes, sabotage=sabotage) == [0] * processes
    return works


def assert_ends_like(work_dir, expected):
    assert differences(trained_state(work_dir), trained_state(expected)) == []
    # A run killed between a save and the removal of what it replaces keeps both.
    assert {*checkpoints(work_dir)} >= {*checkpoints(expected)}
    assert not list(work_dir.glob('*.tmp'))
    metrics, wanted = (json.loads((folder / 'metrics.json').read_text())['metrics'] for folder in (work_dir, expected))
    assert {name: metrics[name] for name in wanted if 'time' not in name} == {
        name: value for name, value in wanted.items() if 'time' not in name
    }


@pytest.mark.parametrize(('processes', 'step'), KILL_POINTS)
def test_a_run_killed_after_a_step_goes_on_as_if_it_had_not_been(whole, tmp_path, processes, step):
    victim = step % processes
    codes = train(tmp_path / 'run', processes=processes, sabotage=KillAfterStep(step, victim))
    assert codes[victim] == KILLED
    assert train(tmp_path / 'run', '--resume', processes=processes) == [0] * processes
    assert_ends_like(tmp_path / 'run', whole[processes])


def test_a_run_may_be_killed_again_and_again(whole, tmp_path):
    for step in (2, 5, 6, 13, 15):
        assert train(tmp_path / 'run', '--resume', sabotage=KillAfterStep(step)) == [KILLED]
    assert train(tmp_path / 'run', '--resume') == [0]
    assert_ends_like(tmp_path / 'run', whole[1])


@pytest.mark.parametrize('options', [[], ['--amp', 'bfloat16']])
def test_gradients_that_are_accumulated_beyond_an_epoch_are_not_lost(tmp_path, options):
    # Steps after 3 of the 4 iterations of an epoch, and after the last of 16.
    options = [*options, '--cfg-options', 'optim_wrapper.accumulative_counts=3']
    assert train(tmp_path / 'whole', *options) == [0]
    for step in (6, 10):
        assert train(tmp_path / 'run', '--resume', *options, sabotage=KillAfterStep(step)) == [KILLED]
    assert train(tmp_path / 'run', '--resume', *options) == [0]
    assert_ends_like(tmp_path / 'run', tmp_path / 'whole')
    assert 'the gradients that no step has used yet are restored: none is lost' in printed(tmp_path / 'run')


def test_the_seed_is_that_of_the_checkpoint_where_the_config_has_none(tmp_path):
    options = ['--cfg-options', 'randomness.seed=None']
    assert train(tmp_path / 'whole', *options, 'default_hooks.checkpoint.max_keep_ckpts=4') == [0]
    assert train(tmp_path / 'run', '--resume', tmp_path / 'whole' / 'epoch_2.pth', *options) == [0]
    assert differences(trained_state(tmp_path / 'run'), trained_state(tmp_path / 'whole')) == []


def test_what_follows_a_metric_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    cfg = Config.fromfile(CONFIG, lazy_import=False)
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    cfg.param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='accuracy/top1', rule='greater', patience=1)]
    cfg.custom_hooks.append(dict(type='EarlyStoppingHook', monitor='accuracy/top1', rule='greater', patience=3))
    cfg.train_cfg.max_epochs = 20
    cfg.dump(tmp_path / 'config.py')
    whole = tmp_path / 'whole'
    assert train(whole, config=tmp_path / 'config.py') == [0]
    last = max(int(name[6:-4]) for name in checkpoints(whole) if name.startswith('epoch_'))
    (best,) = (int(name.rpartition('_')[2][:-4]) for name in checkpoints(whole) if name.startswith('best_'))
    # The checkpoint of the best epoch was saved anew after its validation.
    assert 0 < best < last - 1 < 19
    name = f'epoch_{last}.pth'
    for epoch in (best, best + 1):
        run = tmp_path / f'run{epoch}'
        assert train(run, '--resume', whole / f'epoch_{epoch}.pth', config=tmp_path / 'config.py') == [0]
        assert differences(trained_state(run, name), trained_state(whole, name)) == []
        assert f'epoch_{last + 1}.pth' not in checkpoints(run)
    # A run that was stopped stays so.
    assert train(whole, '--resume', config=tmp_path / 'config.py') == [0]
    assert f'epoch_{last + 1}.pth' not in checkpoints(whole)


def test_a_finished_training_with_accumulated_gradients_can_be_extended(tmp_path):
    # A schedule of the learning rate would end with the first training.
    options = ['--cfg-options', 'optim_wrapper.accumulative_counts=3', 'param_scheduler=None']
    assert train(tmp_path / 'run', *options, 'train_cfg.max_epochs=1') == [0]
    assert train(tmp_path / 'run', '--resume', *options, 'train_cfg.max_epochs=2') == [0]


def check_killed_while_writing(whole, tmp_path, event):
    # Two processes write the same events as one: only the first of them writes.
    assert train(tmp_path / 'run', sabotage=Writing(event, tmp_path / 'events')) == [KILLED]
    list(checkpoints(tmp_path / 'run'))
    assert train(tmp_path / 'run', '--resume') == [0]
    assert_ends_like(tmp_path / 'run', whole[1])


def test_the_events_of_writing_are_those_that_the_tests_draw_from(whole):
    events = whole[1].with_suffix('.events').read_text().splitlines()
    assert len(events) == WRITE_EVENTS
    for event in ('epoch_3.pth.tmp is half written', 'last_checkpoint is empty', 'before removing epoch_1.pth'):
        assert event in events


@pytest.mark.parametrize('event', sorted(random.Random(2).sample(range(WRITE_EVENTS), 6)))
def test_a_run_killed_while_it_writes_leaves_whole_checkpoints(whole, tmp_path, event):
    check_killed_while_writing(whole, tmp_path, event)


@pytest.mark.slow
@pytest.mark.parametrize('event', range(WRITE_EVENTS))
def test_a_run_killed_at_any_event_of_writing_leaves_whole_checkpoints(whole, tmp_path, event):
    check_killed_while_writing(whole, tmp_path, event)


@pytest.mark.slow
def test_torchrun_restarts_after_a_killed_worker(whole, run_tool, tmp_path):
    cfg = Config.fromfile(CONFIG, lazy_import=False)
    cfg.custom_hooks.append(dict(type='ToyKillHook', step=5))
    cfg.dump(tmp_path / 'config.py')
    arguments = [tmp_path / 'config.py', '--work-dir', tmp_path / 'run', '--launcher', 'pytorch', '--resume']
    trained = run_tool('train', *arguments, processes=2, max_restarts=1, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert 'resumed epoch: 2, iter: 4' in trained.stdout + trained.stderr
    assert_ends_like(tmp_path / 'run', whole[2])
