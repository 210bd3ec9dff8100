"""What the tools for trained models share. It works without MMEngine."""

import argparse
import io
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from fg_plugin.error_report import errors_as_messages
from fg_plugin.inference import LoadedModel, load_model
from fg_plugin.key_values import key_value

USER_ERRORS = (OSError, ValueError, KeyError, TypeError, SyntaxError, ImportError)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a trained model to ``parser``."""
    parser.add_argument(
        'source', metavar='CONFIG_OR_NAME', help='an MMEngine config (.py), or a timm name (fg_resnet18)'
    )
    parser.add_argument('checkpoint', type=Path, metavar='CHECKPOINT', help='weights of the model')
    for flag, what in (('--model-kwargs', 'a timm name, as in num_classes=10'), ('--cfg-options', 'a config')):
        parser.add_argument(
            flag,
            dest='options',
            nargs='+',
            action='extend',
            type=key_value,
            default=[],
            metavar='KEY=VALUE',
            help=f'options of {what}',
        )
    parser.add_argument(
        '--input-size',
        type=int,
        nargs='+',
        metavar='SIZE',
        help='height and width of an input, or one number for both; needed where a config does not tell them',
    )
    parser.add_argument('--classes', type=Path, metavar='FILE', help='names of the classes, one a line')
    parser.add_argument('--device', default='cpu', help='such as cpu or cuda (default: cpu)')
    parser.add_argument('--traceback', action='store_true', help='show where an error was raised')


def load_from_arguments(args: argparse.Namespace) -> LoadedModel:
    """Load the model that the arguments name.

    Raises:
        ValueError: If the input size is not one or two numbers, or the device cannot be used.
    """
    _check_device(args.device)
    size = args.input_size
    if size is not None and (len(size) > 2 or min(size) < 1):
        raise ValueError(f'--input-size should be one or two positive numbers, but got {size}')
    classes = None if args.classes is None else args.classes.read_text(encoding='utf-8-sig').splitlines()
    return load_model(
        args.source,
        args.checkpoint,
        options=dict(args.options),
        input_size=None if size is None else (size[0], size[-1]),
        classes=classes,
        device=args.device,
    )


def _check_device(name: str) -> None:
    message = f'--device should be such as cpu or cuda, but {name!r} cannot be used here'
    try:
        on_meta = torch.empty(0, device=name).is_meta
    # torch says in all of these ways that a device is unknown, not compiled in, or not there.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f'{message} ({(str(error).splitlines() or [type(error).__name__])[0]})') from error
    if on_meta:
        raise ValueError(f'{message} (it holds no numbers)')


def reported_errors(show_traceback: bool) -> AbstractContextManager[None]:
    """Print an error of the user's input as one message and exit with status 1."""
    # The name of a file may be no text, which would end a tool that prints it.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    return errors_as_messages(show_traceback, USER_ERRORS)
