"""Exports a trained model for other programs, and checks the result.

python tools/export.py configs/demo_digits.py work_dirs/demo_digits/epoch_15.pth --format onnx
"""

import argparse
from pathlib import Path

from torch import Tensor

from fg_plugin.command_line import add_model_arguments, load_from_arguments, reported_errors
from fg_plugin.export import FORMATS, default_path, export_file
from fg_plugin.export.export_file import check_output
from fg_plugin.inference import list_images
from fg_plugin.inference.batches import input_batches


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export a trained model for other programs, and check the result.')
    add_model_arguments(parser)
    parser.add_argument(
        '--format',
        required=True,
        choices=FORMATS,
        help='onnx and exported_program: a graph with an open batch size; safetensors: the weights; frozen: a '
        'checkpoint of the plain network, with the mean filters of --images',
    )
    parser.add_argument('--out', type=Path, metavar='PATH', help='the file to write (default: beside the checkpoint)')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    parser.add_argument('--images', type=Path, nargs='+', default=[], help='images or folders, for --format frozen')
    parser.add_argument('--batch-size', type=int, default=32, help='images at a time (default: 32)')
    args = parser.parse_args()
    if (args.format == 'frozen') != bool(args.images):
        parser.error('--images should be given with --format frozen, and with no other format')
    return args


def main(args: argparse.Namespace) -> None:
    out = args.out or default_path(args.checkpoint, args.format)
    check_output(args.format, out, args.overwrite)
    loaded = load_from_arguments(args)
    batches: list[Tensor] = []
    if args.images:
        batches, failed = input_batches(loaded, list_images(args.images), args.batch_size)
        for failure in failed:
            print(f'left out {failure.path}: {failure.error}')
    report = export_file(loaded, args.format, out, overwrite=args.overwrite, batches=batches)
    print(f'{out}\n{report}')


if __name__ == '__main__':
    arguments = parse_args()
    with reported_errors(arguments.traceback):
        main(arguments)
