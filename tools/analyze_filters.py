"""Looks at the generated filters of a trained model.

python tools/analyze_filters.py configs/demo_digits.py work_dirs/demo_digits/epoch_15.pth --out-dir work_dirs/filters
"""

import argparse
from pathlib import Path

from fg_plugin.analysis.parts import PARTS
from fg_plugin.command_line import add_model_arguments, load_from_arguments, reported_errors
from fg_plugin.optional_packages import require


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Look at the generated filters of a trained model.')
    add_model_arguments(parser)
    parser.add_argument('--images', type=Path, nargs='+', help="images or folders (default: the config's test set)")
    parser.add_argument('--num-images', type=int, default=500, help='images at most, spread evenly (default: 500)')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder for pictures, arrays and analysis.json')
    parser.add_argument('--layers', nargs='+', metavar='PATTERN', help='layers to draw (default: at most six)')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, help='parts of the analysis (default: all)')
    parser.add_argument('--seed', type=int, default=0, help='of t-SNE and of the choice of other images')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    require('The analysis of filters', 'analysis', 'matplotlib', 'sklearn')
    # Imported here, after it is clear that they can be.
    from fg_plugin.analysis.analyse import analyse
    from fg_plugin.analysis.samples import samples_from_config, samples_from_files
    from fg_plugin.inference import list_images

    loaded = load_from_arguments(args)
    if args.images:
        samples = samples_from_files(loaded, list_images(args.images, leave_out=args.out_dir), args.num_images)
        for failure in samples.failed:
            print(f'left out {failure.path}: {failure.error}')
    else:
        samples = samples_from_config(loaded, args.num_images)
    summary = analyse(
        loaded, samples, args.out_dir, parts=args.only, layers=args.layers, seed=args.seed, progress=print
    )
    for name, value in summary.get('swap', {}).items():
        print(f'swap: {name} {value:.4g}')
    collapsed = summary.get('variance', {}).get('collapsed', [])
    if collapsed:
        print(f'collapsed, with nearly the same filters for all images: {", ".join(collapsed)}')
    print(args.out_dir)


if __name__ == '__main__':
    arguments = parse_args()
    with reported_errors(arguments.traceback):
        main(arguments)
