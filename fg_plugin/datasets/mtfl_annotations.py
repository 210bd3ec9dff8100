"""The annotation file of the official MTFL archive."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_FIELDS = 15
ATTRIBUTES = ('gender', 'smile', 'glasses', 'pose')


@dataclass(frozen=True)
class FaceAnnotation:
    """One line of ``training.txt``.

    Attributes:
        name: Path of the image below the archive's root, with forward slashes.
        landmarks: ``float64`` array of shape ``(5, 2)``: x and y in pixels, in the order of ``LANDMARK_NAMES``.
        attributes: By name. ``gender`` is 1 for male, 2 for female; ``smile`` and ``glasses`` 1 for yes, 2 for no;
            ``pose`` 1 for left profile, 2 for left, 3 for frontal, 4 for right, 5 for right profile.
        line: Line number in the file, from 1.
    """

    name: str
    landmarks: np.ndarray
    attributes: dict[str, int]
    line: int


def read_mtfl_annotations(path: Path) -> list[FaceAnnotation]:
    """Read ``training.txt``: image path, x1..x5, y1..y5, gender, smile, glasses, pose.

    Raises:
        ValueError: If a line has another number of fields or something that is not a number; names file and line. If
            the file is no text in UTF-8.
    """
    try:
        # With the byte order mark that some editors write.
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} should be a text in UTF-8, but is not: {error}') from error
    annotations = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != _FIELDS:
            raise ValueError(
                f'{path}, line {number}: should have {_FIELDS} fields (image path, x1..x5, y1..y5, 4 attributes), '
                f'but has {len(fields)}: {line.strip()!r}'
            )
        try:
            coordinates = np.array(fields[1:11], dtype=np.float64)
            attributes = {name: int(field) for name, field in zip(ATTRIBUTES, fields[11:], strict=True)}
        except ValueError as error:
            raise ValueError(f'{path}, line {number}: coordinates and attributes should be numbers: {error}') from error
        if not np.isfinite(coordinates).all():
            raise ValueError(f'{path}, line {number}: coordinates should be finite: {line.strip()!r}')
        annotations.append(
            FaceAnnotation(fields[0].replace('\\', '/'), coordinates.reshape(2, 5).T, attributes, number)
        )
    if not annotations:
        raise ValueError(f'{path} should hold one line a face, but it is empty')
    return annotations
