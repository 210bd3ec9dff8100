"""Errors of the user's input on the command line."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def message_of(error: Exception) -> str:
    """Return the text of an error, without what Python adds to it."""
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return error.strerror
    return str(error)


@contextmanager
def errors_as_messages(
    show_traceback: bool, errors: tuple[type[Exception], ...], message: Callable[[Exception], str] = message_of
) -> Iterator[None]:
    """Print one of ``errors`` as one message and exit with status 1.

    Args:
        show_traceback: Whether to print where it was raised, too.
        errors: What a user's input can raise.
        message: The text of an error.
    """
    try:
        yield
    except errors as error:
        if show_traceback:
            traceback.print_exc()
        print(f'\nerror: {message(error)}\n(--traceback shows where it was raised)', file=sys.stderr, flush=True)
        sys.exit(1)
