"""A JSON file of numbers and, beside it, a page that shows them."""

import argparse
from pathlib import Path

from fg_plugin.atomic_write import write_text_atomically


def json_path(text: str) -> Path:
    """Read the path of a JSON file from the command line.

    Raises:
        ArgumentTypeError: If it is called otherwise: the page could take its place.
    """
    path = Path(text)
    if path.suffix != '.json':
        raise argparse.ArgumentTypeError(f'should be a .json file, beside which the page is written, but got {text}')
    return path


def write_results(out: Path, numbers: str, page: str) -> Path:
    """Write ``numbers`` to ``out`` and ``page`` beside it; return the path of the page."""
    beside = out.with_suffix('.md')
    for path, text in ((out, numbers), (beside, page)):
        write_text_atomically(path, text)
    return beside
