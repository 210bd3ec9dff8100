import json

import pytest

from fg_plugin.studies.cells import Cells
from fg_plugin.studies.data import Images, load_data
from fg_plugin.studies.training import Recipe

RECIPE = Recipe(epochs=2)


@pytest.fixture
def cells(tmp_path):
    data = load_data('digits', tmp_path, held_out=False)
    few = data._replace(train=Images(data.train.pixels[:256], data.train.labels[:256]))

    def of(recipe=RECIPE, work_dir='work'):
        return Cells('digits', few, recipe, tmp_path / 'studies', tmp_path / work_dir)

    return of


def result_file(cells, arm):
    return cells.folder / arm / 'seed0.json'


def test_a_warm_start_trains_the_static_network_where_it_has_no_result(cells):
    cells().train('warm_static', 0)
    assert json.loads(result_file(cells(), 'static').read_text())['recipe'] == RECIPE._asdict()


def test_a_warm_start_without_the_weights_keeps_the_result_of_the_static_network(cells):
    cells().train('static', 0)
    written = result_file(cells(), 'static').read_text()
    result = cells(work_dir='empty').train('warm_static', 0)
    assert result_file(cells(), 'static').read_text() == written
    assert result == cells().train('warm_static', 0) | {'curve': result['curve']}


@pytest.mark.parametrize('work_dir', ['work', 'empty'])
def test_a_warm_start_from_another_recipe_is_refused(cells, work_dir):
    cells().train('static', 0)
    written = result_file(cells(), 'static').read_text()
    with pytest.raises(ValueError, match=r'static/seed0.json should be of the recipe .*epochs=4'):
        cells(Recipe(epochs=4), work_dir).train('warm_static', 0)
    assert result_file(cells(), 'static').read_text() == written


def test_a_warm_result_of_another_recipe_is_refused(cells):
    cells().train('warm_static', 0)
    assert cells().is_finished('warm_static', 0)
    with pytest.raises(ValueError, match=r'warm_static/seed0.json should be of the recipe .*epochs=2'):
        cells(Recipe(epochs=4)).is_finished('warm_static', 0)
