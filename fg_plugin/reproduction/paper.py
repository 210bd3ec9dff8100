"""The paper's tables and figures: which runs they need, and the numbers printed in them; with two of our own."""

from typing import NamedTuple


class Quantity(NamedTuple):
    """One row of a table.

    Attributes:
        label: The paper's name of it.
        metric: Name of the metric in the run's log.
        epoch: Epoch of the measurement; None for the last one.
        training: Whether it is measured on the training set, as the mean over the epoch.
    """

    label: str
    metric: str
    epoch: int | None = None
    training: bool = False


class Table(NamedTuple):
    """One table or figure of the paper.

    Attributes:
        title: What it shows.
        epochs: Epochs of a full run, as the configs say.
        seeds: How many seeds each run is repeated with.
        columns: Names of the configs to run, by the paper's name of the column.
        quantities: The rows.
        paper: The paper's numbers by (row, column), as far as it prints them.
        measure: What is measured, in percent.
        curves: Whether its picture shows curves over the epochs (Figure 4); otherwise it shows bars (Figure 3).
        panel_per_row: Whether each row has a panel of bars of its own, as where their sizes differ much.
    """

    title: str
    epochs: int
    seeds: int
    columns: dict[str, str]
    quantities: tuple[Quantity, ...]
    paper: dict[tuple[str, str], float]
    measure: str
    curves: bool
    panel_per_row: bool = False


_MNIST_EPOCHS = 20
_MTFL_EPOCHS = 5
_CIFAR10_EPOCHS = 12

_FIRST = Quantity('acc@epoch=1', 'accuracy/top1', epoch=1)
_LAST = Quantity(f'acc@epoch={_MNIST_EPOCHS}', 'accuracy/top1')

_MTFL = {
    'Model32, D-Align': 'unet_mtfl_align',
    'Model32, D-Rot': 'unet_mtfl',
    'Model32, D-Rot-FG': 'fg_unet_mtfl',
    'Model64, D-Align': 'unet64_mtfl_align',
    'Model64, D-Rot': 'unet64_mtfl',
    'Model64, D-Rot-FG': 'fg_unet64_mtfl',
}
_CIFAR10 = (
    Quantity('test accuracy', 'accuracy/top1'),
    Quantity('training accuracy', 'train_accuracy', training=True),
)
_MAXIMAL = (49.11, 111.17, 68.60, 58.41, 105.01, 46.65)

TABLES = {
    'table1': Table(
        title='MNIST test accuracy in percent by the size of the encoder, s = 5',
        epochs=_MNIST_EPOCHS,
        seeds=5,
        columns={
            'baseline': 'mnist_baseline',
            'n_enc = 5': 'fg_mnist_nenc5_s5',
            'n_enc = 10': 'fg_mnist_nenc10_s5',
            'n_enc = 20': 'fg_mnist_nenc20_s5',
        },
        quantities=(_FIRST, _LAST),
        paper={
            (_FIRST.label, 'baseline'): 95.23,
            (_FIRST.label, 'n_enc = 5'): 95.85,
            (_FIRST.label, 'n_enc = 10'): 95.94,
            (_FIRST.label, 'n_enc = 20'): 97.53,
            (_LAST.label, 'baseline'): 98.25,
            (_LAST.label, 'n_enc = 5'): 98.34,
            (_LAST.label, 'n_enc = 10'): 98.45,
            (_LAST.label, 'n_enc = 20'): 99.10,
        },
        measure='accuracy',
        curves=True,
    ),
    'table2': Table(
        title='MNIST test accuracy in percent by the size of the filter repository, n_enc = 20',
        epochs=_MNIST_EPOCHS,
        seeds=5,
        columns={
            'baseline': 'mnist_baseline',
            's = 2': 'fg_mnist_nenc20_s2',
            's = 5': 'fg_mnist_nenc20_s5',
            's = 10': 'fg_mnist_nenc20_s10',
        },
        quantities=(_FIRST, _LAST),
        paper={
            (_FIRST.label, 'baseline'): 95.23,
            (_FIRST.label, 's = 2'): 97.11,
            (_FIRST.label, 's = 5'): 97.53,
            (_FIRST.label, 's = 10'): 97.29,
            (_LAST.label, 'baseline'): 98.25,
            (_LAST.label, 's = 2'): 98.55,
            (_LAST.label, 's = 5'): 99.10,
            (_LAST.label, 's = 10'): 98.92,
        },
        measure='accuracy',
        curves=True,
    ),
    'table3': Table(
        title='MTFL: maximal landmark error on the test set, in percent of the interocular distance',
        epochs=_MTFL_EPOCHS,
        seeds=3,
        columns=_MTFL,
        quantities=(Quantity('maximal error', 'NME/maximal'),),
        paper={('maximal error', column): value for column, value in zip(_MTFL, _MAXIMAL, strict=True)},
        measure='error',
        curves=False,
    ),
    'fig3': Table(
        title='MTFL: mean landmark error on the test set, in percent of the interocular distance',
        epochs=_MTFL_EPOCHS,
        seeds=3,
        columns=_MTFL,
        quantities=tuple(Quantity(name, f'NME/{name}') for name in ('LE', 'RE', 'NT', 'LMC', 'RMC', 'AVG')),
        paper={},
        measure='error',
        curves=False,
    ),
    'fig4': Table(
        title='CIFAR-10 accuracy in percent at the end of training',
        epochs=_CIFAR10_EPOCHS,
        seeds=3,
        columns={'baseline': 'cifar10_baseline', 'baseline-FG': 'fg_cifar10', 'VGG11': 'vgg11_cifar10'},
        quantities=_CIFAR10,
        paper={},
        measure='accuracy',
        curves=True,
    ),
    'swap': Table(
        title='CIFAR-10 test accuracy in percent with the filters of another test image (section 4.4.2)',
        epochs=_CIFAR10_EPOCHS,
        seeds=3,
        columns={'baseline-FG': 'fg_cifar10'},
        quantities=(
            Quantity('own filters', 'accuracy/top1'),
            Quantity('filters of another image', 'swap/accuracy_top1'),
        ),
        paper={('filters of another image', 'baseline-FG'): 15.24},
        measure='test accuracy',
        curves=False,
    ),
    'augmented': Table(
        title='CIFAR-10 accuracy in percent at the end of training, with augmentation (not in the paper)',
        epochs=_CIFAR10_EPOCHS,
        seeds=3,
        columns={'baseline': 'cifar10_baseline_augmented', 'baseline-FG': 'fg_cifar10_augmented'},
        quantities=_CIFAR10,
        paper={},
        measure='accuracy',
        curves=True,
    ),
    'faces': Table(
        title='MTFL D-Rot at equal cost: landmark error in percent of the interocular distance (not in the paper)',
        epochs=_MTFL_EPOCHS,
        seeds=3,
        columns={
            'Model32': 'unet_mtfl',
            'Model43': 'unet43_mtfl',
            'Model64': 'unet64_mtfl',
            'Model72': 'unet72_mtfl',
            'Model32 + SE': 'unet_mtfl_se',
            'Model32 + CondConv': 'unet_mtfl_condconv',
            'FG of the paper': 'fg_unet_mtfl',
            'FG of the paper, no reconstruction': 'fg_unet_mtfl_no_reconstruction',
            'FG, codes from the first block': 'unet_mtfl_stem_codes',
            "FG, codes from each layer's input": 'unet_mtfl_input_codes',
            'light FG (full)': 'fg_unet_mtfl_light',
            'light FG (full, M = N/4)': 'fg_unet_mtfl_quarter',
            'light FG (residual)': 'fg_unet_mtfl_residual',
            'light FG (low rank)': 'fg_unet_mtfl_lowrank',
        },
        quantities=(
            Quantity('mean error', 'NME/AVG'),
            Quantity('maximal error', 'NME/maximal'),
        ),
        paper={},
        measure='error',
        curves=False,
        panel_per_row=True,
    ),
}
