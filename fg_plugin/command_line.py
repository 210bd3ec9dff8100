"""What the tools for trained models share. It works without MMEngine."""

import argparse
import ast
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from fg_plugin.error_report import errors_as_messages
from fg_plugin.inference import LoadedModel, load_model

USER_ERRORS = (OSError, ValueError, KeyError, TypeError, ModuleNotFoundError)


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
        '--input-size', type=int, nargs='+', metavar='SIZE', help='height and width of an input, or one number for both'
    )
    parser.add_argument('--classes', type=Path, metavar='FILE', help='names of the classes, one a line')
    parser.add_argument('--device', default='cpu', help='such as cpu or cuda (default: cpu)')
    parser.add_argument('--traceback', action='store_true', help='show where an error was raised')


def key_value(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE`` as MMEngine's ``DictAction`` does, so that an option means the same as in a training.

    ``1``, ``1e-3``, ``true`` and ``None`` are what they look like, ``1,2`` and ``[a,b]`` are lists and ``(a,b)`` is a
    tuple, also one in another. All else is a text, without blanks and without quotes around it. What MMEngine's action
    takes for a text, too, is a mapping as Python writes it, such as ``{'conv1': 0}`` for ``fg_levels``.

    Raises:
        ArgumentTypeError: If it cannot be read.
    """
    key, separator, value = text.partition('=')
    if not key or not separator:
        raise argparse.ArgumentTypeError(
            f'should be KEY=VALUE, but got {text!r}; files and folders come before the options'
        )
    try:
        mapping = _read_mapping(value)
        return key, _read_value(value) if mapping is None else mapping
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{error}, but got {text!r}') from error


def _read_mapping(text: str) -> dict | None:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _read_value(text: str) -> Any:
    text = text.strip('\'"').replace(' ', '')
    if text.startswith('(') and text.endswith(')'):
        return tuple(_read_value(item) for item in _split(text[1:-1]))
    if text.startswith('[') and text.endswith(']'):
        return [_read_value(item) for item in _split(text[1:-1])]
    return [_read_value(item) for item in _split(text)] if ',' in text else _read_single(text)


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets; none follows the last item."""
    items, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in '([') - (character in ')]')
        if depth < 0:
            break
        if character == ',' and depth == 0:
            items.append(text[start:position])
            start = position + 1
    if depth:
        raise ValueError('brackets should be balanced')
    return items if start == len(text) else [*items, text[start:]]


def _read_single(text: str) -> Any:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    return None if text == 'None' else text


def load_from_arguments(args: argparse.Namespace) -> LoadedModel:
    """Load the model that the arguments name.

    Raises:
        ValueError: If the input size is not one or two numbers, or the device cannot be used.
    """
    _check_device(args.device)
    size = args.input_size
    if size is not None and (len(size) > 2 or min(size) < 1):
        raise ValueError(f'--input-size should be one or two positive numbers, but got {size}')
    classes = None if args.classes is None else args.classes.read_text(encoding='utf-8').splitlines()
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
    return errors_as_messages(show_traceback, USER_ERRORS)
