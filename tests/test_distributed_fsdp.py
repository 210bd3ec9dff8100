"""FSDP2 (fully_shard): two processes that share the parameters train like one that has them all."""

import pytest
import torch
from toy_distributed_checks import condition_sharded, create, train_on_batch, train_sharded
from toy_runs import in_processes


@pytest.mark.parametrize('reconstruction_weight', [0.0, 1.0])
@pytest.mark.parametrize('kind', ['wrapper', 'timm'])
def test_sharded_training_equals_that_of_one_process(kind, reconstruction_weight, tmp_path):
    assert in_processes(2, train_sharded, kind, reconstruction_weight, tmp_path) == [0, 0]
    expected, _ = create(kind, reconstruction_weight)
    train_on_batch(expected, kind)
    actual, _ = create(kind, reconstruction_weight)
    # The whole state is an ordinary checkpoint.
    actual.load_state_dict(torch.load(tmp_path / 'weights.pt', weights_only=True))
    for (name, parameter), wanted in zip(actual.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter, wanted, rtol=0, atol=1e-9, msg=name)


def test_filters_of_other_images_for_a_network_inside_of_a_sharded_one():
    assert in_processes(1, condition_sharded) == [0]
