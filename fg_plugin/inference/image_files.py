"""Images from files, of which some may be damaged."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from fg_plugin.image_decoding import UndecodableImageError, decode_image
from fg_plugin.inference.loaded_model import LoadedModel

FILE_CHANNELS = (1, 3)
"""Channels of an input that an image file gives: grey or RGB."""


class UnreadableImageError(ValueError):
    """A file does not exist or holds no image that can be decoded."""


def list_images(paths: Sequence[Path], leave_out: Path | None = None) -> list[Path]:
    """Return the files that ``paths`` name, those of a folder sorted and with its subfolders, without hidden ones.

    A link to a folder is a subfolder, too. Nothing is left out by its name's ending: what is no image shows when it is
    read.

    Args:
        paths: Files, and folders of them.
        leave_out: A folder whose files are not listed with those of a folder around it, such as that of drawn images.

    Raises:
        OSError: If a folder cannot be read.
        ValueError: If there is no file at all, or ``leave_out`` is one of the folders.
    """
    left_out = frozenset() if leave_out is None else frozenset({leave_out.resolve()})
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            if path.resolve() in left_out:
                raise ValueError(
                    f'{leave_out} should not be a folder of images, as it is written to: give another one.'
                )
            files += _files_below(path, left_out)
        else:
            files.append(path)
    if not files:
        raise ValueError(f'There should be at least one image, but got {", ".join(map(str, paths)) or "nothing"}.')
    return files


def _files_below(folder: Path, left_out: frozenset[Path]) -> Iterator[Path]:
    resolved = folder.resolve()
    if resolved in left_out:
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.'):
            continue
        if path.is_dir():
            # A link to a folder around it would have no end.
            yield from _files_below(path, left_out | {resolved})
        elif path.is_file():
            yield path


def check_reads_files(loaded: LoadedModel) -> None:
    """Check that image files give what a model takes.

    Raises:
        ValueError: If it takes neither grey images nor RGB.
    """
    channels = loaded.input_size[0]
    if channels not in FILE_CHANNELS:
        raise ValueError(
            f'The model should take images of 1 channel (grey) or 3 (RGB) to read them from files, but '
            f'{loaded.source} takes {channels} channels.'
        )


def read_image(path: Path, channels: int) -> Image.Image:
    """Decode an image, turned as its EXIF data says, in grey for one channel and in RGB otherwise.

    Pixels of 16 bits are scaled to 8.

    Raises:
        UnreadableImageError: If it cannot be decoded, or its pixels are 32-bit integers or floating point numbers.
    """
    if not path.is_file():
        raise UnreadableImageError('the file does not exist')
    try:
        return decode_image(path, 'L' if channels == 1 else 'RGB', transpose=True)
    except UndecodableImageError as error:
        if isinstance(error.__cause__, Image.UnidentifiedImageError):
            raise UnreadableImageError('the file holds no image of a known format') from error
        raise UnreadableImageError(str(error)) from error
