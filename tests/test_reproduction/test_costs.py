"""MACs and relative times of a table's networks."""

from pathlib import Path

import pytest

from fg_plugin.reproduction.costs import costs_by_column
from fg_plugin.reproduction.page import table_page
from fg_plugin.reproduction.paper import TABLES
from fg_plugin.reproduction.summary import cells

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize(
    ('columns', 'macs'),
    [
        # Two 5x5 convolutions without padding and a linear layer.
        ({'static': 'mnist_baseline', 'FG': 'fg_mnist_nenc5_s5'}, 5 * 25 * 24**2 + 5 * 5 * 25 * 8**2 + 80 * 10),
        ({'static': 'demo_unet_faces_baseline', 'FG': 'demo_unet_faces'}, None),
    ],
)
def test_costs_are_relative_to_the_first_column(columns, macs):
    costs = costs_by_column(TABLES['table1']._replace(columns=columns), CONFIGS, rounds=3)
    assert list(costs) == ['static', 'FG']
    assert costs['static']['training'] == costs['static']['inference'] == 1
    assert costs['FG']['macs'] > costs['static']['macs']
    if macs is not None:
        assert costs['static']['macs'] == macs


def test_the_page_shows_the_costs(tmp_path):
    table = TABLES['faces']
    costs = {'Model32': {'macs': 123_460_000, 'training': 1.0, 'inference': 1.0}}
    page = table_page('faces', table, cells(table, tmp_path), {}, costs=costs)
    assert '| Model32 | 123.5 M | 1.00 | 1.00 |' in page
    assert 'training time' not in table_page('faces', table, cells(table, tmp_path), {})
