"""Compares generated filters with other networks of equal cost, by one recipe: beyond the paper.

    python tools/study.py cost                                       # scikit-learn's digits: nothing to download
    python tools/study.py cost heads warm --data mnist_rotated       # three seeds of each network
    python tools/study.py cost --data cifar10_16 --arms static paper --seeds 0
    python tools/study.py warm --data cifar10_16 --network resnet18  # a small ResNet-18 of timm
    python tools/study.py heads --data mnist_rotated --held-out      # to choose settings by: no test image is seen
    python tools/study.py all --data mnist_rotated --report          # trains nothing

A finished network is never trained again: its result is in results/studies/<data>/<network>/seed<k>.json. The page of
all data sets is results/studies.md, which RESULTS.md shows.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from fg_plugin.analysis.variation import COLLAPSE_THRESHOLD
from fg_plugin.atomic_write import write_text_atomically
from fg_plugin.benchmark.environment import environment
from fg_plugin.studies.arms import ARMS, ENCODER, NETWORKS, STUDIES, macs, parameters, static
from fg_plugin.studies.augmentation import MAX_SHIFT
from fg_plugin.studies.cells import Cells
from fg_plugin.studies.data import StudyData, data_names, load_data
from fg_plugin.studies.figures import draw_costs
from fg_plugin.studies.networks import WIDTHS
from fg_plugin.studies.page import Results, data_page, load_costs, load_results, with_numbers
from fg_plugin.studies.speed import relative_times
from fg_plugin.studies.training import Recipe
from fg_plugin.visualization.figures import save_figure

ROOT = Path(__file__).parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('studies', nargs='+', choices=[*STUDIES, 'all'], help='tables to fill')
    parser.add_argument('--data', default='digits', choices=data_names(), help='default: digits')
    parser.add_argument('--network', default='plain', choices=list(NETWORKS), help='default: plain')
    parser.add_argument('--data-root', type=Path, default=ROOT / 'data', help='folder of the data sets')
    parser.add_argument('--arms', nargs='+', choices=list(ARMS), help='only these networks')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument('--epochs', type=int, default=Recipe().epochs, help=f'default: {Recipe().epochs}')
    parser.add_argument('--lr', type=float, default=Recipe().lr, help=f'default: {Recipe().lr}')
    parser.add_argument('--held-out', action='store_true', help='test on a held-out part of the training set')
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('--costs', action='store_true', help='measure parameters, MACs and times, on an idle machine')
    mode.add_argument('--report', action='store_true', help='train and measure nothing')
    parser.add_argument('--results', type=Path, default=ROOT / 'results', help='folder of the results')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'studies', help='folder of weights')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    studies = list(STUDIES) if 'all' in args.studies else args.studies
    arms = [arm for study in studies for arm in STUDIES[study] if not args.arms or arm in args.arms]
    arms = list(dict.fromkeys(arms))
    others = set(args.arms or ()).difference(arms)
    if others:
        known = [study for study, members in STUDIES.items() if others.intersection(members)]
        raise ValueError(
            f'--arms should be networks of {", ".join(studies)}, but got {", ".join(sorted(others))}, of {known}.'
        )
    of_others = [arm for arm in arms if args.network not in ARMS[arm].networks]
    if args.arms and of_others:
        raise ValueError(
            f'--arms should be networks that are made from {args.network}, but got {", ".join(of_others)}, of '
            f'{", ".join(ARMS[of_others[0]].networks)}.'
        )
    arms = [arm for arm in arms if arm not in of_others]
    name = args.data if args.network == 'plain' else f'{args.data}_{args.network}'
    if args.held_out:
        name += '_held_out'
    if not args.report:
        data = load_data(args.data, args.data_root, held_out=args.held_out)._replace(network=args.network)
        cells = Cells(name, data, Recipe(args.epochs, args.lr), args.results / 'studies', args.work_dir)
        cells.check_recipe()
        missing = [(arm, seed) for seed in args.seeds for arm in arms if not cells.is_finished(arm, seed)]
        for position, (arm, seed) in enumerate(missing, 1):
            # Another process may have trained it meanwhile.
            if cells.is_finished(arm, seed):
                continue
            result = cells.train(arm, seed)
            facts = ', '.join(
                f'{key} {result[key]:.2f}' for key in ('test', 'unseen', 'train', 'swapped') if key in result
            )
            print(f'[{position}/{len(missing)}] {arm} seed {seed}: {facts}', flush=True)
            write_page(args.results)
        if args.costs:
            measure_costs(data, tuple(arms), cells.folder)
    write_page(args.results)


def measure_costs(data: StudyData, arms: tuple[str, ...], folder: Path) -> None:
    """Write the parameters, MACs and relative times of the networks, and anew of those that were measured before."""
    times = relative_times(data, tuple(dict.fromkeys((*load_costs(folder), *arms))))
    costs = {}
    for arm in times:
        model = ARMS[arm].build(data, static(data))
        costs[arm] = {'parameters': parameters(model, data), 'macs': macs(model, data), **times[arm]}
    write_text_atomically(folder / 'costs.json', json.dumps({'arms': costs, **environment()}, indent=1) + '\n')


def write_page(results: Path) -> None:
    """Write results/studies.md and a picture for each data set."""
    path = results / 'remarks.json'
    remarks = json.loads(path.read_text()).get('studies', {}) if path.is_file() else {}
    remarks = {name: with_numbers(remark, results / 'studies') for name, remark in remarks.items()}
    if not (results / 'studies').is_dir():
        raise FileNotFoundError(f'{results} should hold results of studies, but has no folder "studies": train first.')
    folders = sorted(folder for folder in (results / 'studies').iterdir() if folder.is_dir())
    for folder in folders:
        costs, found = load_costs(folder), accuracies(load_results(folder))
        if costs and found:
            save_figure(draw_costs(found, costs, f'{folder.name}: accuracy and cost'), folder.with_suffix('.png'))
    pages = [data_page(folder, remarks) for folder in folders]
    introduction = [INTRODUCTION, remarks.get('verdict', '')]
    write_text_atomically(
        results / 'studies.md', '\n\n'.join(part.rstrip() for part in [*introduction, *pages] if part) + '\n'
    )


def accuracies(results: Mapping[str, Results]) -> dict[str, dict[str, list[float]]]:
    """Return the accuracies of the figure, one a seed, by their label and by arm."""
    found: dict[str, dict[str, list[float]]] = {}
    for arm in set(results).intersection(STUDIES['cost']):
        for key, label in {'test': 'test accuracy (%)', 'unseen': 'accuracy on unseen variations (%)'}.items():
            if values := [result[key] for result in results[arm].values() if key in result]:
                found.setdefault(label, {})[arm] = values
    return found


_ENCODER_WIDTHS = ', '.join(str(width) for width, _ in ENCODER)
INTRODUCTION = f"""## Beyond the paper: at equal cost

Made by `python tools/study.py`. The network has four 3x3 convolutions ({', '.join(map(str, WIDTHS))} filters); in the
sections named `..._resnet18` it is timm's ResNet-18 with a 3x3 stem of stride 1 and a quarter of the channels in its
stages. The generators are smaller than the default: their encoder has {_ENCODER_WIDTHS} channels, and sees
the image in full size. Their filters start as the paper's, random (`init='orthogonal'`); where a row says that they are
static at the start, as those of a converted network are (`init='preserve'`), they cost the same. M = N/4 is a full head
with a quarter of the base filters.

All networks of a section are trained by one recipe: AdamW with a one-cycle learning rate, for
{Recipe().epochs} epochs if the section says nothing else, without augmentation; in those named `..._augmented`, each
training image is shifted by up to {MAX_SHIFT:.1%} of its size and mirrored at random, anew in each epoch. A warm start
goes on from a trained static network for half as many epochs, with a third of the learning rate.

Accuracies are in percent, mean ± standard deviation over n seeds. `against static`: difference to the static network of
the same seed. `unseen`: test images with stronger variations than any in training. `swapped`: with the filters of
another image; the closer to `test`, the less the filters depend on their image. `collapsed`: the convolutions of each
seed whose coefficients hardly depend on the image (variance over images below {COLLAPSE_THRESHOLD:g} of their mean
square). In the sections named `..._held_out`, all of it is measured on a part of the training set that was not trained
on, to choose settings by. Parameters and MACs are those of inference, times multiples of the static network's (CPU,
batch of 128, side by side); that of training is the time of forward and backward, without the optimizer."""


if __name__ == '__main__':
    try:
        main(parse_args())
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f'error: {error}')
