"""Tests a checkpoint: python tools/test.py configs/demo_digits.py work_dirs/demo_digits/epoch_5.pth"""

import argparse
from pathlib import Path

from mmengine.dist import is_main_process

import fg_plugin.registration  # noqa: F401
from fg_plugin.hooks import StrictLoadHook
from fg_plugin.json_text import json_text
from fg_plugin.launch import add_common_arguments, build_runner, load_config, reported_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint on the test set of a config.')
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='path of the checkpoint')
    parser.add_argument('--out', metavar='METRICS.json', help='write the metrics to this file')
    add_common_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.out:
        # What is wrong with it should not show after the whole test.
        if Path(args.out).is_dir():
            raise IsADirectoryError(f'--out should be a file, but {args.out} is a folder')
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    cfg = load_config(args)
    if cfg.get('test_dataloader') is None:
        raise ValueError(f'config should have a test_dataloader to test on, but {args.config} has none')
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint should be an existing file, but got {args.checkpoint}')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    runner = build_runner(cfg)
    runner.register_hook(StrictLoadHook())
    metrics = runner.test()
    if args.out and is_main_process():
        Path(args.out).write_text(json_text(metrics))


if __name__ == '__main__':
    arguments = parse_args()
    with reported_errors(arguments.traceback):
        main(arguments)
