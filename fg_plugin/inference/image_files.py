"""Images from files, of which some may be damaged."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps


class UnreadableImageError(ValueError):
    """A file does not exist or holds no image that can be decoded."""


def list_images(paths: Sequence[Path]) -> list[Path]:
    """Return the files that ``paths`` name, those of a folder sorted and with its subfolders, without hidden ones.

    Nothing is left out by its name's ending: what is no image shows when it is read.

    Raises:
        ValueError: If there is no file at all.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            names = (file for file in path.rglob('*') if file.is_file())
            files += sorted(file for file in names if not _is_hidden(file.relative_to(path)))
        else:
            files.append(path)
    if not files:
        raise ValueError(f'There should be at least one image, but got {", ".join(map(str, paths)) or "nothing"}.')
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith('.') for part in path.parts)


def read_image(path: Path, channels: int) -> Image.Image:
    """Decode an image, turned as its EXIF data says, in grey for one channel and in RGB otherwise.

    Raises:
        UnreadableImageError: If it cannot be decoded.
    """
    if not path.is_file():
        raise UnreadableImageError('the file does not exist')
    try:
        # An image of more pixels than PIL takes for an attack is refused, rather than read with a warning.
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            return ImageOps.exif_transpose(file).convert('L' if channels == 1 else 'RGB')
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError('the file holds no image of a known format') from error
    # PIL reports a broken PNG chunk as SyntaxError and a broken header of other formats in several ways.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error
