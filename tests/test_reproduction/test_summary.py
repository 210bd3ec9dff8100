import json
from itertools import pairwise

import numpy as np
import pytest

from fg_plugin.reproduction.figures import draw_bars, draw_bars_by_row, draw_curves_over_seeds
from fg_plugin.reproduction.page import table_page
from fg_plugin.reproduction.paper import Quantity, Table
from fg_plugin.reproduction.summary import cells, cells_of_other_schedules, chosen_runs

TABLE = Table(
    title='accuracy',
    epochs=2,
    seeds=3,
    columns={'static': 'net', 'generated': 'fg_net'},
    quantities=(Quantity('first', 'acc/top1', epoch=1), Quantity('last', 'acc/top1')),
    paper={('last', 'static'): 90.0, ('last', 'generated'): 95.0},
    measure='accuracy',
    curves=True,
)


@pytest.fixture
def keep(tmp_path):
    """Keeps the logs of a run, as training does."""

    def write(folder, seed, first, last, epochs=2):
        path = tmp_path / folder / f'seed{seed}'
        path.mkdir(parents=True)
        val = [{'epoch': 1.0, 'acc/top1': first}, {'epoch': float(epochs), 'acc/top1': last}]
        (path / 'metrics.json').write_text(json.dumps(dict(epochs=epochs, parameters=1234, metrics={'acc/top1': last})))
        (path / 'curves.json').write_text(json.dumps(dict(train=[], val=val)))
        return tmp_path

    return write


def test_numbers_over_seeds(keep):
    for seed, last in enumerate((90.0, 91.0, 95.0)):
        results = keep('net', seed, 80.0, last)
    found = {(cell.row, cell.column): cell for cell in cells(TABLE, results)}
    cell = found['last', 'static']
    assert cell.mean == 92
    assert cell.std == pytest.approx(np.std([90, 91, 95], ddof=1))
    assert cell.difference == 2
    assert found['first', 'static'].mean == 80
    assert found['first', 'static'].difference is None
    assert found['last', 'generated'].mean is None
    assert json.loads(json.dumps(cell.to_dict()))['values'] == {'0': 90.0, '1': 91.0, '2': 95.0}


@pytest.mark.parametrize(('folder', 'lengths'), [('net', (2, 30)), ('net-10ep', (2,))])
def test_runs_of_one_folder_have_one_length(keep, folder, lengths):
    # As after a config's number of epochs was changed.
    for seed, epochs in enumerate(lengths):
        results = keep(folder, seed, 50.0, 60.0, epochs=epochs)
    with pytest.raises(ValueError, match=rf'{folder} should be of one number of epochs.*seed{seed} is of {epochs}'):
        cells(TABLE, results)


def test_the_longest_schedule_is_shown_until_a_full_run_exists(keep):
    keep('net-1ep', 0, 50.0, 50.0, epochs=1)
    results = keep('net-10ep', 0, 60.0, 60.0, epochs=10)
    assert [run.metrics['epochs'] for run in chosen_runs('net', results)] == [10]
    keep('net', 0, 70.0, 70.0)
    assert [run.metrics['epochs'] for run in chosen_runs('net', results)] == [2]
    assert chosen_runs('other', results) == []


def test_the_page_shows_the_papers_number_and_ours(keep):
    keep('net', 0, 80.0, 91.0)
    results = keep('net', 1, 80.0, 92.0)
    keep('fg_net-1ep', 0, 81.0, 81.0, epochs=1)
    remarks = {'table9': 'About all.', 'table9/last/generated': 'Too short.'}
    page = table_page('table9', TABLE, cells(TABLE, results), remarks)
    assert '## Table 9: accuracy' in page
    assert '| last | static | 90.00 | 91.50 ± 0.71 | 2 | 2 | +1.50 |' in page
    assert '| last | generated | 95.00 | 81.00 | 1 | 1 of 2 | -14.00 |' in page
    assert 'Parameters: 1,234 (static), 1,234 (generated).\n\nAbout all.\n\n- last, generated: Too short.' in page


def test_the_page_shows_the_other_schedules_below(keep):
    keep('net', 0, 80.0, 91.0)
    keep('net-10ep', 0, 80.0, 93.0, epochs=10)
    results = keep('net-1ep', 0, 70.0, 70.0, epochs=1)
    keep('net-1ep', 1, 72.0, 72.0, epochs=1)
    keep('fg_net-1ep', 0, 81.0, 81.0, epochs=1)
    others = cells_of_other_schedules(TABLE, results)
    assert [(cell.row, cell.column, cell.epochs) for cell in others] == [
        ('first', 'static', 10),
        ('first', 'static', 1),
        ('last', 'static', 10),
        ('last', 'static', 1),
    ]
    page = table_page('table9', TABLE, cells(TABLE, results), {}, others)
    shown, below = page.split('Other schedules, with runs of their own:\n\n')
    assert '| last | static | 90.00 | 91.00 | 1 | 2 | +1.00 |' in shown
    assert '| last | static | 90.00 | 71.00 ± 1.41 | 2 | 1 of 2 | -19.00 |' in below
    assert '| last | static | 90.00 | 93.00 | 1 | 10 instead of 2 | +3.00 |' in below
    assert '91.00' not in below
    assert below.startswith('|  |  | paper |')


def test_the_page_names_what_was_not_run(keep):
    results = keep('net', 0, 80.0, 91.0)
    page = table_page('fig3', TABLE, cells(TABLE, results), {})
    assert page.startswith('## Figure 3: accuracy')
    assert '| last | generated | 95.00 |  | 0 |  |  |' in page
    assert page.endswith('Not run yet: generated.\n')


def test_curves_hold_every_seed_and_their_mean(keep):
    keep('net', 0, 80.0, 90.0)
    results = keep('net', 1, 82.0, 94.0)
    runs = {'static': chosen_runs('net', results), 'generated': []}
    (axes,) = draw_curves_over_seeds(runs, [Quantity('accuracy', 'acc/top1')], TABLE).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[80, 90], [82, 94], [81, 92]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['static (92.00, n = 2)']
    assert axes.get_ylabel() == 'accuracy (%)'


def test_bars_are_grouped_by_panel(keep):
    columns = {'A, static': 'net', 'A, generated': 'fg_net', 'B, static': 'none', 'C': 'net'}
    table = TABLE._replace(columns=columns, measure='error')
    keep('net', 0, 80.0, 90.0)
    results = keep('fg_net-1ep', 0, 85.0, 95.0, epochs=1)
    first, second = draw_bars(cells(table, results), table).axes
    assert [patch.get_height() for patch in first.patches] == [80, 90, 85, 95]
    legend = [text.get_text() for text in first.get_legend().get_texts()]
    assert legend == ['static (n = 1)', 'generated (n = 1, 1 of 2 epochs)']
    assert [axes.get_title() for axes in (first, second)] == ['A', 'C']
    assert [patch.get_height() for patch in second.patches] == [80, 90]
    assert first.get_ylabel() == 'error (%)'


def test_bars_by_row_show_every_seed(keep):
    for seed, last in enumerate((90.0, 92.0)):
        results = keep('net', seed, 50.0, last)
    results = keep('fg_net', 0, 60.0, 95.0)
    first, second = draw_bars_by_row(cells(TABLE, results), TABLE).axes
    assert [first.get_title(), second.get_title()] == ['first', 'last']
    assert [bar.get_width() for bar in second.patches] == [91.0, 95.0]
    assert [list(line.get_xdata()) for line in second.lines] == [[90.0, 92.0], [95.0]]
    # The first is at the top, as in the table.
    assert first.get_ylim()[0] > first.get_ylim()[1]


def test_names_of_many_bars_do_not_overlap(keep):
    columns = {f'network {number}': f'net{number}' for number in range(14)}
    for net in columns.values():
        results = keep(net, 0, 50.0, 90.0)
    table = TABLE._replace(columns=columns)
    figure = draw_bars_by_row(cells(table, results), table)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == len(columns)
    for box, following in pairwise(boxes):
        assert box.y0 > following.y1
