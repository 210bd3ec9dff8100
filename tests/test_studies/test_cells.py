import json

import pytest
import torch

from fg_plugin.studies.cells import Cells
from fg_plugin.studies.data import Images, load_data
from fg_plugin.studies.page import load_results
from fg_plugin.studies.training import Recipe

RECIPE = Recipe(epochs=2)
OTHER = Recipe(epochs=4)


@pytest.fixture
def cells_of(tmp_path):
    """Makes cells of few digits, by their recipe and the folder of weights."""
    data = load_data('digits')
    train, test = (Images(part.pixels[:128], part.labels[:128]) for part in (data.train, data.test))

    def make(recipe=RECIPE, work_dir='work'):
        return Cells('toy', data._replace(train=train, test=test), recipe, tmp_path / 'studies', tmp_path / work_dir)

    return make


def result_file(cells, arm, seed=0):
    return cells.folder / arm / f'seed{seed}.json'


def test_finished_ones_are_known(cells_of):
    cells = cells_of()
    assert not cells.is_finished('se', 0)
    cells.train('se', 0)
    assert cells.is_finished('se', 0)
    assert not cells.is_finished('se', 1)
    result = json.loads(result_file(cells, 'se').read_text())
    assert result.keys() >= {'arm', 'seed', 'recipe', 'test', 'curve', 'torch', 'cpu', 'command'}


def test_a_warm_start_trains_the_static_network_first(cells_of):
    cells = cells_of()
    cells.train('warm_static', 5)
    assert cells.is_finished('static', 5)
    assert cells.is_finished('warm_static', 5)
    # The one whose weights are kept is the one of the result.
    assert json.loads(result_file(cells, 'static', 5).read_text())['recipe'] == RECIPE._asdict()


def test_a_warm_start_without_the_weights_keeps_the_result_of_the_static_network(cells_of):
    cells_of().train('static', 0)
    written = result_file(cells_of(), 'static').read_text()
    result = cells_of(work_dir='empty').train('warm_static', 0)
    assert result_file(cells_of(), 'static').read_text() == written
    again = cells_of().train('warm_static', 0)
    for curve in (result['curve'], again['curve']):
        for epoch in curve:
            del epoch['seconds']
    assert result == again


def test_warm_starts_of_a_seed_begin_with_the_same_network(cells_of):
    cells = cells_of()
    cells.train('warm_static', 0)
    result = json.loads(result_file(cells, 'warm_static').read_text())
    assert result['before'] == json.loads(result_file(cells, 'static').read_text())['test']
    # As another processor trains it anew from the same seed.
    weights = torch.load(cells._weights(0))
    weights['classifier.bias'] += 1e-6
    torch.save(weights, cells._weights(0))
    with pytest.raises(ValueError, match=r'warm_static/seed0\.json should begin with the same network as warm_lowrank'):
        cells.train('warm_lowrank', 0)
    assert not cells.is_finished('warm_lowrank', 0)
    # Results from before starts were recorded cannot be compared.
    del result['start']
    result_file(cells, 'warm_static').write_text(json.dumps(result))
    cells.train('warm_lowrank', 0)


def test_results_of_another_recipe_are_refused(cells_of):
    cells = cells_of()
    cells.train('warm_static', 0)
    cells.check_recipe()
    with pytest.raises(ValueError, match=r'static/seed0.json should be of the recipe .*epochs=4.* of toy'):
        cells_of(OTHER).check_recipe()
    # Moved away, within the folder or out of it.
    static = result_file(cells, 'static')
    static.rename(static.with_name('seed0_old.json'))
    with pytest.raises(ValueError, match=r'warm_static/seed0.json should be of the recipe .*epochs=2'):
        cells_of(OTHER).check_recipe()
    result_file(cells, 'warm_static').parent.rename(cells.folder / 'warm_static_old')
    cells_of(OTHER).check_recipe()
    assert load_results(cells.folder) == {}
