import io
import os
import pickle
from collections.abc import Iterator

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from fg_plugin.compat import allow_checkpoint_globals
from fg_plugin.compat.checkpoint_globals import history_buffer_statistic


@pytest.fixture
def nothing_allowed() -> Iterator[None]:
    torch.serialization.clear_safe_globals()
    yield
    allow_checkpoint_globals()


class Attribute:
    """Pickles as a call of the builtin getattr."""

    def __init__(self, owner: object, name: str) -> None:
        self.arguments = owner, name

    def __reduce__(self) -> tuple:
        return getattr, self.arguments


def saved(value: object) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


def assert_equal(actual: object, expected: object) -> None:
    """Bitwise equality of nested containers."""
    assert type(actual) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected)
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_equal(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for pair in zip(actual, expected, strict=True):
            assert_equal(*pair)
    else:
        assert actual == expected


@pytest.mark.usefixtures('nothing_allowed')
def test_a_runner_checkpoint_needs_the_shim(toy_runner, tmp_path):
    toy_runner(**{'train_cfg.max_epochs': 1}).train()
    path = tmp_path / 'run' / 'epoch_1.pth'
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)

    allow_checkpoint_globals()
    allow_checkpoint_globals()
    history = torch.load(path, weights_only=True)['message_hub']['log_scalars']['train/loss']

    assert isinstance(history, HistoryBuffer)
    assert history.statistics('mean') == history.mean()


@pytest.mark.parametrize('owner', [HistoryBuffer, torch.device])
def test_a_hostile_checkpoint_finds_no_other_attribute(owner):
    with pytest.raises(pickle.UnpicklingError, match=r"should ask only for min, max, current, mean .* '__init__'"):
        torch.load(saved(Attribute(owner, '__init__')), weights_only=True)


def test_other_globals_stay_refused():
    with pytest.raises(pickle.UnpicklingError, match='system'):
        torch.load(saved(os.system), weights_only=True)


def test_the_statistics_are_those_of_history_buffer():
    assert history_buffer_statistic(HistoryBuffer, 'mean') is HistoryBuffer.mean


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(toy_runner, tmp_path):
    toy_runner('whole').train()
    resumed = toy_runner('resumed', load_from=str(tmp_path / 'whole' / 'epoch_1.pth'), resume=True)
    resumed.train()

    expected, actual = (
        CheckpointLoader.load_checkpoint(str(tmp_path / run / 'epoch_3.pth')) for run in ('whole', 'resumed')
    )
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(actual[part], expected[part])
    losses = [part['message_hub']['log_scalars']['train/loss'].data[0].tolist() for part in (expected, actual)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 18
