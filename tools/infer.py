"""Predicts for images with a trained model: the drawn images and one JSON file.

python tools/infer.py configs/demo_digits.py work_dirs/demo_digits/epoch_15.pth my_images --out-dir predictions
"""

import argparse
import sys
from pathlib import Path

from fg_plugin.command_line import add_model_arguments, load_from_arguments, reported_errors
from fg_plugin.inference import list_images, predict_files
from fg_plugin.inference.prediction_folder import JSON_NAME, picture_names, write_predictions
from fg_plugin.optional_packages import require


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Predict for images. The exit status is 1 if there is no prediction for some of them.'
    )
    add_model_arguments(parser)
    parser.add_argument('images', type=Path, nargs='+', metavar='IMAGES_OR_FOLDER', help='images, or folders of them')
    parser.add_argument('--out-dir', type=Path, required=True, help=f'folder for the drawn images and {JSON_NAME}')
    parser.add_argument('--batch-size', type=int, default=32, help='images at a time (default: 32)')
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    """Return the number of files without a prediction."""
    require('The progress bar', 'analysis', 'rich')
    from rich.progress import track

    loaded = load_from_arguments(args)
    files = list_images(args.images, leave_out=args.out_dir)
    results = track(predict_files(loaded, files, args.batch_size), description='Predicting', total=len(files))
    failed = write_predictions(loaded, results, args.out_dir, picture_names(files, args.images))
    print(f'{len(files) - len(failed)} of {len(files)} images predicted: {args.out_dir / JSON_NAME}')
    for failure in failed:
        print(f'no prediction for {failure.path}: {failure.error}', file=sys.stderr)
    return len(failed)


if __name__ == '__main__':
    arguments = parse_args()
    with reported_errors(arguments.traceback):
        sys.exit(1 if main(arguments) else 0)
