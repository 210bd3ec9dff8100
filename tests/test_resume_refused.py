"""What a run does not go on from, and runs that cannot save."""

import pickle
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from toy_runs import KILLED, FullDisk, KillAfterStep, checkpoints, differences, own_disk, printed, train, trained_state

from fg_plugin.compat import AtomicLocalBackend


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder of a training with a batch size of 8, which is stopped after two of four epochs."""
    folder = tmp_path_factory.mktemp('trained') / 'run'
    assert train(folder, '--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=4') == [0]
    for epoch in (3, 4):
        (folder / f'epoch_{epoch}.pth').unlink()
    return folder


def refusal(work_dir, *arguments, processes=1, sabotage=None):
    """The message of a run that should end in one."""
    codes = train(work_dir, *arguments, processes=processes, sabotage=sabotage)
    assert 1 in codes
    message = printed(work_dir).rpartition('\nerror: ')[2]
    assert 'Traceback' not in message
    return message


def test_another_number_of_processes_is_refused_with_the_ways_out(trained, tmp_path):
    message = refusal(tmp_path / 'run', '--resume', trained / 'epoch_2.pth', processes=2)
    assert (
        'should have the number of processes and the batch size of its checkpoint, which are 1 process with a batch '
        'size of 8, but got 2 processes with 8. Resume with --nproc_per_node=1 and train_dataloader.batch_size=8'
    ) in message
    assert '--allow-other-processes and --cfg-options train_dataloader.batch_size=4' in message


def test_another_number_of_processes_with_the_same_batch_is_allowed_when_asked(trained, tmp_path):
    resumed = ['--resume', trained / 'epoch_2.pth']
    options = ['--cfg-options', 'model.backbone.backbone.dropout=0', 'train_dataloader.batch_size=4']
    assert refusal(tmp_path / 'refused', *resumed, *options, processes=2)
    assert train(tmp_path / 'two', *resumed, '--allow-other-processes', *options, processes=2) == [0, 0]
    assert train(tmp_path / 'one', *resumed, *options[:2]) == [0]
    one, two = (trained_state(tmp_path / run)['state_dict'] for run in ('one', 'two'))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-9, msg=name)


def test_another_batch_size_is_refused(trained, tmp_path):
    resumed = ['--resume', trained / 'epoch_2.pth', '--allow-other-processes']
    message = refusal(tmp_path / 'run', *resumed, '--cfg-options', 'train_dataloader.batch_size=16')
    assert 'which are 1 process with a batch size of 8, but got 1 process with 16' in message
    assert 'To go on' not in message


def test_another_length_is_refused_with_the_way_out(trained, tmp_path):
    resumed = ['--resume', trained / 'epoch_2.pth', '--cfg-options', 'train_cfg.max_epochs=6']
    message = refusal(tmp_path / 'run', *resumed)
    assert 'whose CosineAnnealingLR has end=16, but got 24' in message
    assert 'Resume with the train_cfg of the checkpoint, or start a new training from its weights' in message


def test_another_learning_rate_is_refused_with_the_way_out(trained, tmp_path):
    option = 'optim_wrapper.optimizer.lr=0.5'
    message = refusal(tmp_path / 'run', '--resume', trained / 'epoch_2.pth', '--cfg-options', option)
    assert f'which MMEngine takes from it, but got {option}, 0.' in message
    assert f'start a new training from its weights with --cfg-options load_from={trained / "epoch_2.pth"}' in message


def test_another_seed_is_refused(trained, tmp_path):
    resumed = ['--resume', trained / 'epoch_2.pth', '--cfg-options', 'randomness.seed=1']
    message = refusal(tmp_path / 'run', *resumed)
    assert (
        f'the seed of its checkpoint, but {trained / "epoch_2.pth"} has 0 and the config randomness.seed=1' in message
    )


def test_the_average_of_weights_is_not_taken_for_the_weights(trained, tmp_path):
    path = trained / 'epoch_2.pth'
    message = refusal(tmp_path / 'run', '--resume', path, '--cfg-options', 'custom_hooks=[]')
    assert f'but got no EMAHook, and {path} holds their average' in message


def test_an_earlier_run_in_the_folder_is_not_taken_for_the_last(tmp_path):
    run = tmp_path / 'run'
    assert train(run, '--cfg-options', 'train_cfg.max_epochs=1') == [0]
    assert train(run, sabotage=KillAfterStep(2)) == [KILLED]
    message = refusal(run, '--resume')
    assert f'that run began anew and was stopped before it saved one: {run / "epoch_1.pth"} is of an earlier' in message
    assert train(run) == [0]
    assert not (run / 'began_anew').exists()
    assert train(run, '--resume') == [0]


def test_another_precision_is_named_in_a_warning(trained, tmp_path):
    assert train(tmp_path / 'run', '--resume', trained / 'epoch_2.pth', '--amp') == [0]
    assert 'resumed with other settings, so that the run will not end where' in printed(tmp_path / 'run')
    assert 'optim_wrapper.type="CPUAmpOptimWrapper", "' in printed(tmp_path / 'run')
    assert train(tmp_path / 'same', '--resume', trained / 'epoch_2.pth') == [0]
    assert 'other settings' not in printed(tmp_path / 'same')


def test_another_architecture_is_refused_with_its_keys(trained, tmp_path):
    resumed = ['--resume', trained / 'epoch_2.pth', '--cfg-options']
    message = refusal(tmp_path / 'static', *resumed, 'model.backbone.convert.exclude=[layers.0]')
    assert 'unknown to the model: backbone.backbone.layers.0.coefficient_head' in message
    message = refusal(tmp_path / 'rank', *resumed, 'model.backbone.convert.rank=3')
    assert 'of another shape: backbone.backbone.layers.0.coefficient_head' in message


def test_processes_that_find_different_checkpoints_are_refused(trained, tmp_path):
    work_dir = tmp_path / 'run'
    assert train(work_dir, processes=2) == [0, 0]
    message = refusal(work_dir, '--resume', processes=2, sabotage=own_disk)
    assert 'all processes should start from the same checkpoint, but those of rank 0, 1, ... found epoch and' in message
    assert '[(4, 8), (0, 0)]' in message


def test_accumulated_gradients_of_several_processes_are_announced_and_refused(tmp_path):
    # Steps after 3 of the 2 iterations of an epoch.
    work_dir, accumulated = tmp_path / 'run', 'optim_wrapper.accumulative_counts=3'
    options = ['--cfg-options', accumulated, 'default_hooks.checkpoint.max_keep_ckpts=4']
    assert train(work_dir, *options, processes=2) == [0, 0]
    assert (
        'this training can be resumed only from a checkpoint after a multiple of 3 epochs, because the 2 iterations of '
        'an epoch are no multiple of accumulative_counts=3'
    ) in printed(work_dir)
    message = refusal(tmp_path / 'second', '--resume', work_dir / 'epoch_2.pth', *options, processes=2)
    assert f'but {work_dir}/epoch_2.pth was saved after iteration 4 without them, between two steps of' in message
    assert 'Resume from a checkpoint after a multiple of 3 epochs, or take only the weights' in message
    assert train(tmp_path / 'third', '--resume', work_dir / 'epoch_3.pth', *options, processes=2) == [0, 0]
    assert differences(trained_state(tmp_path / 'third'), trained_state(work_dir)) == []


def test_weights_without_a_training_state_are_refused_for_resuming_and_taken_by_load_from(trained, tmp_path):
    (best,) = trained.glob('best_*.pth')
    message = refusal(tmp_path / 'best', '--resume', best)
    assert f"{best} has no 'optimizer': it holds weights only" in message
    weights = tmp_path / 'weights.safetensors'
    state = CheckpointLoader.load_checkpoint(str(trained / 'epoch_2.pth'))['state_dict']
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    message = refusal(tmp_path / 'safe', '--resume', weights)
    assert "has no 'meta', 'message_hub', 'optimizer': it holds weights only. Start a new training from them with "
    assert f'--cfg-options load_from={weights}' in message

    for name, source in (('from_pth', trained / 'epoch_2.pth'), ('from_safetensors', weights)):
        assert train(tmp_path / name, '--cfg-options', 'train_cfg.max_epochs=4', f'load_from={source}') == [0]
    assert differences(trained_state(tmp_path / 'from_safetensors'), trained_state(tmp_path / 'from_pth')) == []


def test_a_run_that_goes_on_in_another_folder_leaves_the_first_one_as_it_is(trained, tmp_path):
    before = sorted(checkpoints(trained))
    assert train(tmp_path / 'run', '--resume', trained / 'epoch_2.pth') == [0]
    assert sorted(checkpoints(trained)) == before
    assert sum(name.startswith('best_') for name in checkpoints(tmp_path / 'run')) == 1


class Payload:
    """Creates a file where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


def hostile_checkpoints(trained, tmp_path):
    """Files that create tmp_path / 'proof' if anything in them is run, by name."""
    proof = tmp_path / 'proof'
    checkpoint = CheckpointLoader.load_checkpoint(str(trained / 'epoch_2.pth'))
    torch.save({**checkpoint, 'extra': Payload(proof)}, tmp_path / 'hostile.pth')
    (tmp_path / 'pickle.pth').write_bytes(pickle.dumps(Payload(proof), protocol=2))
    return [tmp_path / 'hostile.pth', tmp_path / 'pickle.pth']


def test_a_hostile_checkpoint_is_refused_and_not_run(trained, tmp_path, monkeypatch):
    # The environment variable turns off the protection of torch.load's default.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    for path in hostile_checkpoints(trained, tmp_path):
        for name, arguments in (('resume', ['--resume', path]), ('load', ['--cfg-options', f'load_from={path}'])):
            message = refusal(tmp_path / f'{path.stem}_{name}', *arguments)
            assert f'a checkpoint should hold tensors and plain values only, but {path} asks for more' in message
            assert 'nothing of it was run' in message
    assert not (tmp_path / 'proof').exists()
    # What was refused is real: the file, which this test wrote itself, does what it says where nothing holds it back.
    torch.load(tmp_path / 'hostile.pth', weights_only=False)
    assert (tmp_path / 'proof').exists()


def test_the_config_text_in_a_checkpoint_is_not_run(trained, tmp_path):
    checkpoint = CheckpointLoader.load_checkpoint(str(trained / 'epoch_2.pth'))
    proof = tmp_path / 'proof'
    checkpoint['meta']['config'] = f'open({str(proof)!r}, "w").close()\n'
    torch.save(checkpoint, tmp_path / 'hostile.pth')
    assert train(tmp_path / 'run', '--resume', tmp_path / 'hostile.pth') == [0]
    assert not proof.exists()


@pytest.mark.parametrize('name', ['half.pth', 'empty.pth', 'text.pth', 'half.safetensors'])
def test_a_damaged_file_is_named(trained, tmp_path, name):
    whole = (trained / 'epoch_2.pth').read_bytes()
    path = tmp_path / name
    path.write_bytes({'half': whole[: len(whole) // 2], 'empty': b'', 'text': b'no checkpoint'}[path.stem])
    with pytest.raises(ValueError, match=rf'a checkpoint should be a whole file .*, but {path} is damaged'):
        CheckpointLoader.load_checkpoint(str(path))


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    work_dir = tmp_path / 'run'
    message = refusal(work_dir, '--resume', sabotage=FullDisk('epoch_3.pth'))
    assert (
        f'the checkpoint could not be saved: {work_dir}/epoch_3.pth could not be written: No space left on device; the '
        f'last good checkpoint is {work_dir}/epoch_2.pth. Make room and go on with --resume\n'
    ) in message
    assert {'epoch_1.pth', 'epoch_2.pth'} <= {*checkpoints(work_dir)}
    assert not list(work_dir.glob('*.tmp'))
    assert train(work_dir, '--resume') == [0]
    assert train(tmp_path / 'whole') == [0]
    assert differences(trained_state(work_dir), trained_state(tmp_path / 'whole')) == []


def test_what_a_killed_save_left_is_removed_by_the_next_run(tmp_path):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    (work_dir / 'best_accuracy_top1_epoch_9.pth.tmp').write_bytes(b'half')
    assert train(work_dir, '--resume', '--cfg-options', 'train_cfg.max_epochs=1') == [0]
    assert not list(work_dir.glob('*.tmp'))


def test_a_failed_write_says_which_file_and_keeps_it(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'good')
    monkeypatch.setattr(Path, 'open', Path.open)
    FullDisk('epoch_1.pth')()
    with pytest.raises(OSError, match=f'{path} could not be written: No space'):
        AtomicLocalBackend().put(b'new', path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b'good']


def test_a_work_dir_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / 'file').touch()
    message = refusal(tmp_path / 'run', '--work-dir', tmp_path / 'file' / 'run')
    assert message.startswith(
        f'work_dir should be a folder that can be written, but {tmp_path}/file/run is not (Not a directory); choose '
        'another with --work-dir\n'
    )
