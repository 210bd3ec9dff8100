import pytest
from mmengine.fileio import LocalBackend

from fg_plugin.compat import AtomicLocalBackend

BEST_BY_EPOCH = {'default_hooks.checkpoint.save_best': 'toy/index_sum', 'default_hooks.checkpoint.rule': 'greater'}


def checkpoints(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def fail_at(monkeypatch, backend, name):
    """Makes saving a file whose name ends in ``name`` fail halfway."""
    put = backend.put

    def fail(self, obj, filepath):
        if str(filepath).endswith(name):
            raise OSError('disk full')
        put(self, obj, filepath)

    monkeypatch.setattr(backend, 'put', fail)


def test_only_the_wanted_checkpoints_are_kept(toy_runner, tmp_path):
    toy_runner(**{'default_hooks.checkpoint.max_keep_ckpts': 1, **BEST_BY_EPOCH}).train()
    assert checkpoints(tmp_path / 'run') == ['best_toy_index_sum_epoch_1.pth', 'epoch_3.pth']
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == str(tmp_path / 'run' / 'epoch_3.pth')


@pytest.mark.parametrize('safe', [False, True])
def test_the_old_checkpoint_goes_only_after_the_new_one_is_written(toy_runner, tmp_path, monkeypatch, safe):
    fail_at(monkeypatch, AtomicLocalBackend if safe else LocalBackend, '/epoch_2.pth')
    runner = toy_runner(safe=safe, **{'default_hooks.checkpoint.max_keep_ckpts': 1, **BEST_BY_EPOCH})
    with pytest.raises(OSError, match='disk full'):
        runner.train()
    assert ('epoch_1.pth' in checkpoints(tmp_path / 'run')) == safe


@pytest.mark.parametrize('safe', [False, True])
def test_the_old_best_goes_only_after_the_new_one_is_written(toy_runner, tmp_path, monkeypatch, safe):
    fail_at(monkeypatch, AtomicLocalBackend if safe else LocalBackend, 'best_epoch_epoch_2.pth')
    runner = toy_runner(
        safe=safe,
        **{
            'val_evaluator.type': 'ToyEpochMetric',
            'default_hooks.checkpoint.save_best': 'epoch',
        },
    )
    with pytest.raises(OSError, match='disk full'):
        runner.train()
    assert ('best_epoch_epoch_1.pth' in checkpoints(tmp_path / 'run')) == safe


def test_a_replaced_best_is_removed(toy_runner, tmp_path):
    toy_runner(**{'val_evaluator.type': 'ToyEpochMetric', 'default_hooks.checkpoint.save_best': 'epoch'}).train()
    assert checkpoints(tmp_path / 'run') == ['best_epoch_epoch_3.pth', *(f'epoch_{n}.pth' for n in (1, 2, 3))]


def test_checkpoints_by_iteration_are_refused_in_an_epoch_loop(toy_runner):
    with pytest.raises(ValueError, match='should save by epoch in an epoch-based loop, but got by_epoch=False'):
        toy_runner(**{'default_hooks.checkpoint.by_epoch': False}).train()


def by_iteration(**settings):
    return {
        'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=7, val_interval=100),
        'param_scheduler.by_epoch': False,
        'train_dataloader.sampler.type': 'InfiniteSampler',
        **settings,
    }


def test_an_iteration_loop_may_save_by_iteration(toy_runner, tmp_path):
    interval = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 5}
    toy_runner(**by_iteration(**interval)).train()
    assert {'iter_5.pth', 'iter_7.pth'} <= set(checkpoints(tmp_path / 'run'))


def test_checkpoints_by_epoch_are_refused_in_an_iteration_loop(toy_runner):
    with pytest.raises(ValueError, match=r'got by_epoch=True: nothing would be saved before the end\. Set by_epoch'):
        toy_runner(**by_iteration()).train()


def test_resuming_in_the_middle_of_an_epoch_is_refused(toy_runner, tmp_path):
    toy_runner('first', **{'train_cfg.max_epochs': 1}).train()
    resumed = toy_runner(
        resume=True, load_from=str(tmp_path / 'first' / 'epoch_1.pth'), **{'train_dataloader.batch_size': 5}
    )
    with pytest.raises(ValueError, match=r'1 epochs of 5 iterations\), but the checkpoint was saved after iteration 6'):
        resumed.train()


def test_a_validation_outside_training_saves_nothing(toy_runner, tmp_path):
    alone = toy_runner('alone')
    assert alone.val()['toy/images'] == 23
    assert checkpoints(tmp_path / 'alone') == []

    improving = {'val_evaluator.type': 'ToyEpochMetric', 'default_hooks.checkpoint.save_best': 'epoch'}
    trained = toy_runner('trained', **improving)
    trained.train()
    before = checkpoints(tmp_path / 'trained')
    assert trained.val()['epoch'] == 4
    assert checkpoints(tmp_path / 'trained') == before
