from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from fg_plugin.hooks import LandmarkVisualizationHook
from fg_plugin.visualization import landmark_grid


class Recorder:
    """Stands in for the runner: keeps what goes to the visual backends and the log."""

    def __init__(self, folder, epoch=2, max_epochs=2, iteration=0, max_iters=0):
        self.work_dir, self.epoch, self.max_epochs = str(folder), epoch, max_epochs
        self.iter, self.max_iters = iteration, max_iters
        # Its class is all that is asked for.
        self.train_loop = object.__new__(IterBasedTrainLoop if max_iters else EpochBasedTrainLoop)
        self.experiment_name, self.pictures = 'experiment', []
        self.visualizer = SimpleNamespace(add_image=lambda name, image, step: self.pictures.append((name, image, step)))
        self.logger = SimpleNamespace(info=lambda text: None)


def feed(hook, runner, errors, batch_size=3, ends=True):
    """Validates images whose largest landmark error in percent is ``errors``, maybe at the end of a training."""
    truth = torch.tensor([[10.0, 10.0], [20.0, 10.0], [15.0, 15.0], [11.0, 20.0], [19.0, 20.0]])
    hook.before_val_epoch(runner)
    for batch in torch.tensor(errors).split(batch_size):
        images = torch.randint(0, 256, (len(batch), 3, 32, 32), dtype=torch.uint8)
        outputs = []
        for error in batch:
            predicted = truth.clone()
            predicted[2, 0] += error / 10  # the eyes are 10 pixels apart
            outputs.append({'pred_landmarks': predicted, 'gt_landmarks': truth})
        hook.after_val_iter(runner, 0, {'inputs': images}, outputs)
    hook.after_val_epoch(runner)
    if ends:
        hook.after_train(runner)


@pytest.fixture
def drawn(monkeypatch):
    """The rows of each picture."""
    pictures, draw = [], landmark_grid.draw_landmark_grid
    monkeypatch.setattr(
        'fg_plugin.hooks.landmark_visualization_hook.draw_landmark_grid',
        lambda rows, title: pictures.append(rows) or draw(rows, title),
    )
    return pictures


def test_draws_the_first_and_the_worst(tmp_path, drawn):
    runner = Recorder(tmp_path)
    feed(LandmarkVisualizationHook(columns=2, rows=2), runner, [5.0, 40.0, 10.0, 20.0, 90.0, 1.0, 60.0])
    first, second, worst = drawn[0]
    assert first.captions == ['5.0 %', '40.0 %']
    assert second.captions == ['10.0 %', '20.0 %']
    assert worst.captions == ['90.0 %', '60.0 %']
    assert worst.title == 'largest errors'
    assert (tmp_path / 'landmarks.png').read_bytes().startswith(b'\x89PNG')
    [(name, picture, step)] = runner.pictures
    assert (name, step) == ('landmarks', 2)
    assert picture.ndim == 3


def test_draws_only_at_the_end(tmp_path):
    hook, runner = LandmarkVisualizationHook(), Recorder(tmp_path)
    feed(hook, runner, [5.0], ends=False)
    assert not (tmp_path / 'landmarks.png').exists()
    # Wherever it is: a training may be stopped early.
    runner.epoch = 1
    hook.after_train(runner)
    assert (tmp_path / 'landmarks.png').exists()
    assert [step for _, _, step in runner.pictures] == [1]


def test_a_training_without_validation_draws_nothing(tmp_path):
    LandmarkVisualizationHook().after_train(Recorder(tmp_path))
    assert not (tmp_path / 'landmarks.png').exists()


def test_draws_at_the_end_of_an_iteration_based_loop(tmp_path):
    # Such a loop is in the first of one epoch all the time.
    runner = Recorder(tmp_path, epoch=0, max_epochs=1, iteration=6, max_iters=6)
    feed(LandmarkVisualizationHook(), runner, [5.0])
    assert [step for _, _, step in runner.pictures] == [6]


def test_predictions_that_are_no_numbers_are_the_worst(tmp_path, drawn):
    feed(LandmarkVisualizationHook(columns=3, rows=1), Recorder(tmp_path), [5.0, float('nan'), 90.0, 40.0, 60.0])
    assert drawn[0][-1].captions == ['nan %', '90.0 %', '60.0 %']


def test_draws_after_a_test(tmp_path):
    hook, runner = LandmarkVisualizationHook(), Recorder(tmp_path, epoch=0, max_epochs=5)
    feed(hook, runner, [5.0], ends=False)
    hook.after_test_epoch(runner)
    assert (tmp_path / 'landmarks.png').exists()


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match='columns and rows should be at least 1, but got 0 and 2'):
        LandmarkVisualizationHook(columns=0)


def test_images_that_must_not_be_passed_on_are_left_out(tmp_path, drawn):
    feed(LandmarkVisualizationHook(draw_images=False), Recorder(tmp_path), [5.0, 40.0])
    assert not any(row.images.any() for row in drawn[0])
