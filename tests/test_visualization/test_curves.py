import pytest

from fg_plugin.visualization import draw_curves, figure_to_array

TRAIN = [{'epoch': 0.5, 'loss': 2.0, 'loss_rec': 0.5, 'train_accuracy': 30.0}, {'epoch': 1.0, 'loss': 1.0}]
VAL = [{'epoch': 1, 'accuracy/top1': 60.0}, {'epoch': 2, 'accuracy/top1': 70.0, 'swap/accuracy_top1': 15.0}]


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_losses_and_metric_groups_get_a_panel_each():
    figure = draw_curves(TRAIN, VAL, title='run')
    loss, accuracy = figure.axes
    assert labels(loss) == ['loss (1)', 'loss_rec (0.5)']
    assert labels(accuracy) == ['train_accuracy (30)', 'accuracy/top1 (70)']
    assert list(accuracy.lines[1].get_xdata()) == [1, 2]
    assert list(accuracy.lines[1].get_ydata()) == [60, 70]


def test_a_single_value_goes_into_the_title():
    assert draw_curves(TRAIN, VAL, title='run')._suptitle.get_text() == 'run, swap/accuracy_top1 15'


def test_the_maximum_has_its_own_panel():
    val = [{'epoch': epoch, 'NME/LE': 3.0, 'NME/AVG': 4.0, 'NME/maximal': 90.0} for epoch in (1, 2)]
    assert [axes.get_title() for axes in draw_curves([], val).axes] == ['NME', 'NME/maximal']


@pytest.mark.parametrize(('values', 'scale'), [((8, 1), 'log'), ((60, 70), 'linear'), ((3, -1), 'linear')])
def test_curves_that_fall_far_are_logarithmic(values, scale):
    rows = [{'epoch': epoch, 'loss': value} for epoch, value in enumerate(values)]
    assert draw_curves(rows, []).axes[0].get_yscale() == scale


def test_renders_to_pixels():
    pixels = figure_to_array(draw_curves(TRAIN, VAL))
    assert pixels.dtype == 'uint8'
    assert pixels.shape[2] == 3
    assert pixels.std() > 0


def test_nothing_to_draw():
    with pytest.raises(ValueError, match='should hold at least one curve, but both are empty'):
        draw_curves([], [])
