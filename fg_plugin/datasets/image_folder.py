"""One folder a class, decoded once and cached as arrays next to the data."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from fg_plugin.atomic_write import write_atomically
from fg_plugin.image_decoding import UndecodableImageError, decode_image

_EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')


def list_image_folder(root: Path, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """List the images of ``root/<class>/*``, by class in the order of ``classes``, then by file name.

    Returns:
        Paths relative to ``root`` with forward slashes, and the position of each one's class in ``classes``.
    """
    names: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(classes):
        files = sorted(file for file in os.listdir(root / class_name) if file.lower().endswith(_EXTENSIONS))
        names += [f'{class_name}/{file}' for file in files]
        labels += [label] * len(files)
    return names, labels


def load_images(
    root: Path, names: Sequence[str], size: tuple[int, int], *, skip_corrupt: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Decode RGB images, or read them from the cache ``<root>_cache.npz`` beside ``root``.

    The cache belongs to exactly these names, file sizes and modification times: when any of them changes, the images
    are decoded again. A folder that cannot be written to works without a cache.

    Args:
        root: Folder that ``names`` are relative to.
        names: Images to decode, in this order.
        size: Expected ``(height, width)``.
        skip_corrupt: Leave out, with a warning that counts them, images that cannot be decoded.

    Returns:
        ``uint8`` array of shape ``(n, 3, H, W)`` and the positions in ``names`` of its ``n`` images.

    Raises:
        ValueError: If an image cannot be decoded and ``skip_corrupt`` is false, none can, or one has another size.
    """
    cache = root.with_name(f'{root.name}_cache.npz')
    fingerprint = _fingerprint(root, names)
    cached = _read_cache(cache, fingerprint)
    if cached is None:
        images, kept = _decode(root, names, size, skip_corrupt)
        _write_cache(cache, fingerprint, images, kept)
    else:
        images, kept = cached
    if len(kept) < len(names):
        skipped = sorted(set(range(len(names))) - set(kept.tolist()))
        if not skip_corrupt:
            raise corrupt_image(root / names[skipped[0]], 'it was skipped when the cache was made')
        if not len(kept):
            raise ValueError(f'every image in {root} is corrupt, the first is {root / names[0]}; restore the files')
        warnings.warn(f'skipped {len(skipped)} corrupt image(s) of {len(names)} in {root}', stacklevel=2)
    if images.shape[2:] != size:
        raise ValueError(f'the images in {root} should be {size[1]}x{size[0]} pixels')
    return images, kept


def corrupt_image(path: Path, why: object) -> ValueError:
    """Build the error of an image that cannot be decoded."""
    return ValueError(
        f'corrupt image {path}: {why}. Restore the file, or pass skip_corrupt=True to go on without such images'
    )


def _decode(
    root: Path, names: Sequence[str], size: tuple[int, int], skip_corrupt: bool
) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((len(names), 3, *size), dtype=np.uint8)
    kept: list[int] = []
    for position, name in enumerate(track(names, description=f'Decoding {root.name}')):
        try:
            image = np.asarray(decode_image(root / name, 'RGB'))
        except UndecodableImageError as error:
            if not skip_corrupt:
                raise corrupt_image(root / name, error) from error
            continue
        if image.shape[:2] != size:
            raise ValueError(
                f'image {root / name} should be {size[1]}x{size[0]} pixels, but is {image.shape[1]}x{image.shape[0]}'
            )
        images[len(kept)] = image.transpose(2, 0, 1)
        kept.append(position)
    return images[: len(kept)], np.array(kept, dtype=np.int64)


def _fingerprint(root: Path, names: Sequence[str]) -> str:
    # Of the decoding: caches of before hold images of 16 bits as white ones.
    digest = hashlib.sha256(b'16 bits scaled to 8\n')
    for name in names:
        status = os.stat(root / name)
        digest.update(f'{name}\0{status.st_size}\0{status.st_mtime_ns}\n'.encode())
    return digest.hexdigest()


def _read_cache(path: Path, fingerprint: str) -> tuple[np.ndarray, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as cache:
            if str(cache['fingerprint']) != fingerprint:
                return None
            return cache['images'], cache['kept']
    # A damaged header of an array is any error of Python's tokenizer, one of the archive any of zipfile's.
    except Exception:
        return None  # a damaged cache is made again


def _write_cache(path: Path, fingerprint: str, images: np.ndarray, kept: np.ndarray) -> None:
    try:
        with write_atomically(path) as file:
            np.savez(file, fingerprint=np.array(fingerprint), images=images, kept=kept)
    except OSError as error:
        warnings.warn(
            f'cannot cache the decoded images as {path} ({error}): they are decoded again next time', stacklevel=2
        )
