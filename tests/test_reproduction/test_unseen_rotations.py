import json
from contextlib import nullcontext

import numpy as np
import pytest

from fg_plugin.datasets.mtfl import MTFLLandmarks
from fg_plugin.inference import load_model
from fg_plugin.metrics.normalized_mean_error import NormalizedMeanError
from fg_plugin.reproduction.runs import RunName
from fg_plugin.reproduction.unseen_rotations import (
    draw_unseen_rotations,
    is_measured,
    load_unseen_rotations,
    measure_unseen_rotations,
    result_path,
    unseen_rotations_page,
)

COUNT = 14


def measure(run):
    name, root = run
    return measure_unseen_rotations(name, root, root / 'work_dirs', root, root / 'unseen', root / 'results')


def test_a_run_is_tested_on_both(run, write_faces):
    name, root = run
    write_faces(root / 'unseen', np.linspace(47, 60, COUNT))
    path = measure(run)
    assert path == root / 'results' / 'unseen_rotations' / 'unet_tiny-5ep' / 'seed0.json'
    summary = json.loads(path.read_text())
    for key, folder, degrees in (('seen', root, [3.4, 44.0]), ('unseen', root / 'unseen', [49.0, 60.0])):
        expected = reference_errors(name, root, folder)
        assert summary[key]['mean'] == pytest.approx(expected['AVG'])
        assert summary[key]['maximal'] == pytest.approx(expected['maximal'])
        assert summary[key]['degrees'] == degrees
        assert summary[key]['faces'] == COUNT - 2
    bands = summary['by_rotation']
    # Without those that no face is in.
    assert [band['degrees'][0] for band in bands] == [0, 10, 15, 20, 30, 35, 40, 45, 50, 55, 60]
    assert all(high - low == 5 for low, high in (band['degrees'] for band in bands))
    assert sum(band['faces'] for band in bands) == 2 * (COUNT - 2)
    weighted = sum(band['faces'] * band['mean'] for band in bands) / (2 * (COUNT - 2))
    assert weighted == pytest.approx((summary['seen']['mean'] + summary['unseen']['mean']) / 2)
    assert summary.keys() >= {'config', 'seed', 'epochs', 'command', 'torch', 'cpu'}
    assert 'filters_seen' not in summary


def test_a_run_that_is_trained_again_is_measured_again(run, write_faces):
    name, root = run
    folders = (root / 'work_dirs', root / 'results')
    assert not is_measured(name, *folders)
    write_faces(root / 'unseen', np.linspace(47, 60, COUNT))
    measure(run)
    assert is_measured(name, *folders)
    (root / 'work_dirs' / name.folder / 'metrics.json').write_text('{"finished": "tomorrow"}')
    assert not is_measured(name, *folders)


def test_generated_filters_are_also_those_of_the_seen_faces(generated_run, write_faces):
    name, root = generated_run
    write_faces(root / 'unseen', np.linspace(47, 60, COUNT), seed=1)
    summary = json.loads(measure(generated_run).read_text())
    own = reference_errors(name, root, root / 'unseen')
    seen = MTFLLandmarks(str(root), 'rot', 'test').images
    filters_seen = reference_errors(name, root, root / 'unseen', filters_of=seen)
    assert summary['unseen']['mean'] == pytest.approx(own['AVG'])
    assert summary['filters_seen']['unseen']['mean'] == pytest.approx(filters_seen['AVG'])
    assert abs(own['AVG'] - filters_seen['AVG']) > 1e-3
    assert [band['degrees'][0] for band in summary['filters_seen']['by_rotation']] == [45, 50, 55, 60]


def reference_errors(name, root, folder, filters_of=None):
    """The metric of the training runs, face by face."""
    loaded = load_model(root / 'configs' / f'{name.config}.py', root / 'work_dirs' / name.folder / 'epoch_5.pth')
    faces = MTFLLandmarks(str(folder), 'rot', 'test')
    metric = NormalizedMeanError()
    for index, (image, truth) in enumerate(zip(faces.images, faces.targets['landmarks'], strict=True)):
        giver = None if filters_of is None else filters_of[index][None].float() / 255
        with nullcontext() if giver is None else loaded.conditioned_on(giver):
            predicted = loaded.answers(image[None].float() / 255).detach()[0]
        metric.process({}, [{'pred_landmarks': predicted, 'gt_landmarks': truth}])
    return metric.compute_metrics(metric.results)


def test_missing_faces_are_made_by_a_command(run):
    with pytest.raises(FileNotFoundError, match=r'rot\.npz not found.*prepare_mtfl\.py .*unseen --angles 45 60'):
        measure(run)


@pytest.mark.parametrize(
    ('angles', 'album', 'holds'),
    [
        (np.linspace(-44, 44, COUNT), 'lfw', r'rotated by 3\.4 degrees or more'),
        (np.linspace(47, 60, COUNT), 'net', 'other faces'),
    ],
)
def test_other_faces_are_refused(run, write_faces, angles, album, holds):
    write_faces(run[1] / 'unseen', angles, album)
    with pytest.raises(ValueError, match=rf'all rotated by more than its 44\.0 degrees, but holds {holds}'):
        measure(run)
    assert not (run[1] / 'results').exists()


def test_without_a_checkpoint(run):
    name, root = run
    with pytest.raises(FileNotFoundError, match='unseen rotations needs a checkpoint of unet_tiny-5ep/seed1'):
        measure_unseen_rotations(name._replace(seed=1), root, root / 'work_dirs', root, root, root / 'results')


@pytest.fixture
def results(tmp_path):
    """Errors of three networks, one of which has a seed more and one a seed less than the first."""
    errors = {('unet_mtfl', 0): 9.0, ('unet_mtfl', 1): 11.0, ('unet_mtfl_se', 0): 8.0, ('unet_mtfl_se', 1): 11.0}
    errors['unet_mtfl_se', 2] = 5.0
    errors['fg_unet_mtfl_light', 1] = 12.0
    for (config, seed), mean in errors.items():
        path = result_path(RunName(config, seed), tmp_path / 'results')
        path.parent.mkdir(parents=True, exist_ok=True)
        summary = {
            'seed': seed,
            'seen': {'mean': 3.0, 'degrees': [0.1, 45.0]},
            'unseen': {'mean': mean, 'maximal': 10 * mean},
            'by_rotation': [{'degrees': [40, 45], 'mean': 3.0}, {'degrees': [45, 50], 'mean': mean}],
        }
        if config.startswith('fg_'):
            summary['filters_seen'] = {
                'unseen': {'mean': 7.0, 'maximal': 50.0},
                'by_rotation': [{'degrees': [45, 50], 'mean': 7.0}],
            }
        path.write_text(json.dumps(summary))
    return load_unseen_rotations(tmp_path / 'results')


def test_the_page_compares_equal_seeds(results):
    _, _, header, *_ = rows = unseen_rotations_page(results, 'A remark.').splitlines()
    assert '| Model32 | 2 | 3.00 ± 0.00 | 10.00 ± 1.41 | 10.00 ± 1.41 |  | 100.00 ± 14.14 |' in rows
    assert '| Model32 + SE | 3 | 3.00 ± 0.00 | 8.00 ± 3.00 | 8.00 ± 3.00 | -0.50 ± 0.71 | 80.00 ± 30.00 |' in rows
    assert '| D-Rot | 45 to 50 degrees | all unseen |' in header
    assert '| light FG (full) | 1 | 3.00 | 12.00 | 12.00 | +1.00 | 120.00 |' in rows
    assert '| light FG (full), filters of the same faces in D-Rot | 1 |  | 7.00 | 7.00 | -4.00 | 50.00 |' in rows
    assert 'A remark.' in rows
    assert rows[-1] == '![Mean error by rotation](unseen_rotations.png)'


def test_the_picture_shows_errors_and_how_they_differ(results):
    absolute, relative = draw_unseen_rotations(results).axes
    *errors, limit = absolute.lines
    assert [list(line.get_xdata()) for line in errors] == [[42.5, 47.5]] * 3
    assert [list(line.get_ydata()) for line in errors] == [[3.0, 10.0], [3.0, 8.0], [3.0, 12.0]]
    labels = [text.get_text() for text in absolute.get_legend().get_texts()]
    assert labels == [
        'Model32 (n = 2)',
        'Model32 + SE (n = 3)',
        'light FG (full) (n = 1)',
        'largest rotation in training',
    ]
    assert list(limit.get_xdata()) == [45.0, 45.0]
    # Of the seeds that both have: 8 instead of 9 and 11 instead of 11, and 12 instead of 11.
    *differences, _ = relative.lines
    assert [list(line.get_ydata()) for line in differences] == [
        [0.0, 0.0],
        [0.0, pytest.approx(-100 / 9 / 2)],
        [0.0, pytest.approx(100 / 11)],
    ]


def test_without_results(tmp_path):
    assert load_unseen_rotations(tmp_path) == {}
