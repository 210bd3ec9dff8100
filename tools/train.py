"""Trains the model of a config: python tools/train.py configs/demo_digits.py"""

import argparse

import fg_plugin.registration  # noqa: F401
from fg_plugin.compat import AMP_DTYPES, enable_amp
from fg_plugin.hooks import ExactResumeHook, StrictLoadHook, check_began, checkpoint_place, latest_checkpoint
from fg_plugin.launch import add_common_arguments, build_runner, go_on_from, load_config, reported_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train the model of a config.')
    parser.add_argument('config', help='path of the config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from CHECKPOINT, or without a value from the last checkpoint of the work dir, if any',
    )
    parser.add_argument(
        '--allow-other-processes',
        action='store_true',
        help='resume with another number of processes and the same product of it and the batch size; not bit for bit',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='auto',
        choices=AMP_DTYPES,
        help='mixed precision; without a value float16 on a GPU, bfloat16 on a CPU',
    )
    parser.add_argument(
        '--partial-load', action='store_true', help='accept a load_from checkpoint that fits only a part of the model'
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    if args.amp:
        enable_amp(cfg, args.amp)
    if args.resume == 'auto':
        checkpoint = latest_checkpoint(cfg.work_dir, *checkpoint_place(cfg))
        if checkpoint is None:
            cfg.resume = False
        else:
            check_began(cfg.work_dir, checkpoint)
            go_on_from(cfg, str(checkpoint))
    elif args.resume:
        go_on_from(cfg, args.resume)
    runner = build_runner(cfg)
    if not args.partial_load:
        runner.register_hook(StrictLoadHook())
    runner.register_hook(ExactResumeHook(args.allow_other_processes))
    runner.train()


if __name__ == '__main__':
    arguments = parse_args()
    with reported_errors(arguments.traceback):
        main(arguments)
