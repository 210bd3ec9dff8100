import pytest
import torch
from mmengine.runner import CheckpointLoader


@pytest.mark.parametrize('seeded', [False, True])
def test_a_resumed_run_repeats_the_random_numbers_only_with_the_hook(toy_runner, tmp_path, seeded):
    settings = {} if seeded else dict(custom_hooks=[])
    toy_runner('whole', **settings).train()
    toy_runner('resumed', load_from=str(tmp_path / 'whole' / 'epoch_1.pth'), resume=True, **settings).train()

    whole, resumed = (
        CheckpointLoader.load_checkpoint(str(tmp_path / run / 'epoch_3.pth')) for run in ('whole', 'resumed')
    )
    same = [torch.equal(whole['state_dict'][name], tensor) for name, tensor in resumed['state_dict'].items()]
    assert all(same) == seeded


def test_epochs_differ_from_each_other(toy_runner):
    runner = toy_runner()
    seen: list[float] = []
    runner.register_hook(dict(type='ToyRandomRecorder', seen=seen), priority='LOWEST')
    runner.train()
    assert len(set(seen)) == 3
