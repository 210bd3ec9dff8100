"""Reads ``KEY=VALUE`` of a command line."""

import argparse
import ast
from typing import Any


def key_value(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE`` as MMEngine's ``DictAction`` does, so that an option means the same as in a training.

    ``1``, ``1e-3``, ``true`` and ``None`` are what they look like, ``1,2`` and ``[a,b]`` are lists and ``(a,b)`` is a
    tuple, also one in another. All else is a text, without quotes around it. What MMEngine's action takes for a text,
    too, is a mapping as Python writes it, such as ``{'conv1': 0}`` for ``fg_levels``. It also takes the blanks out of a
    text, such as the path of a file, which are kept here; those within brackets or between commas are not.

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
    text = text.strip('\'"')
    compact = text.replace(' ', '')
    if compact.startswith('(') and compact.endswith(')'):
        return tuple(_read_value(item) for item in _split(compact[1:-1]))
    if compact.startswith('[') and compact.endswith(']'):
        return [_read_value(item) for item in _split(compact[1:-1])]
    if ',' in compact:
        return [_read_value(item) for item in _split(compact)]
    value = _read_single(compact)
    return text if isinstance(value, str) else value


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
