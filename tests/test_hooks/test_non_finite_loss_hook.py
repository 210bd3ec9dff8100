import pytest
from mmengine.runner import CheckpointLoader

from fg_plugin.hooks import NonFiniteLossError


def test_a_finite_run_is_left_alone(toy_runner):
    runner = toy_runner()
    runner.train()
    assert runner.epoch == 3


def test_the_step_the_terms_and_the_last_good_checkpoint_are_named(toy_runner, tmp_path):
    with pytest.raises(NonFiniteLossError) as caught:
        toy_runner(**{'model.nan_loss_at': 9}).train()
    text = str(caught.value)
    good = tmp_path / 'run' / 'epoch_1.pth'
    assert 'at step 9 (epoch 2, iteration 3 of it) got loss=nan, loss_cls=nan, loss_rec=0.' in text
    assert f'The last good checkpoint is {good}: clip the gradient' in text
    assert (
        f'lower the learning rate and start a new training from its weights with --cfg-options load_from={good}' in text
    )
    assert sorted(path.name for path in (tmp_path / 'run').glob('epoch_*')) == ['epoch_1.pth']
    assert all(tensor.isfinite().all() for tensor in CheckpointLoader.load_checkpoint(str(good))['state_dict'].values())


def test_broken_weights_are_not_saved_though_the_loss_is_finite(toy_runner, tmp_path):
    with pytest.raises(NonFiniteLossError) as caught:
        toy_runner(**{'model.nan_weight_at': 12}).train()
    assert "after step 12 1 of 10 are not, first 'unused'; they are not saved" in str(caught.value)
    assert f'The last good checkpoint is {tmp_path / "run" / "epoch_1.pth"}' in str(caught.value)
    assert not (tmp_path / 'run' / 'epoch_2.pth').exists()


def test_the_checkpoint_of_an_earlier_run_is_not_called_good(toy_runner):
    toy_runner(**{'train_cfg.max_epochs': 1}).train()
    with pytest.raises(NonFiniteLossError, match='No checkpoint was saved yet; lower the learning rate'):
        toy_runner(**{'model.nan_loss_at': 2}).train()


def test_a_resumed_run_may_go_back_to_where_it_started(toy_runner, tmp_path):
    toy_runner(**{'train_cfg.max_epochs': 1}).train()
    good = str(tmp_path / 'run' / 'epoch_1.pth')
    with pytest.raises(NonFiniteLossError, match=f'The last good checkpoint is {good}'):
        toy_runner(resume=True, load_from=good, **{'model.nan_loss_at': 2}).train()
