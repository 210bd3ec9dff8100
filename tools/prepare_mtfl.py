"""Make D-Align and D-Rot (section 4.2 of the paper) from the official MTFL archive.

    python tools/prepare_mtfl.py --mtfl-root data/MTFL --out-dir data/mtfl_64 [--download]

Writes ``align.npz``, ``rot.npz`` (64x64 RGB images, landmarks, names and the split) and ``contact_sheet.png``. The
same arguments give the same bytes.
"""

import argparse
import shutil
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress, wrap_file

from fg_plugin.atomic_write import write_atomically
from fg_plugin.datasets.contact_sheet import contact_sheet, stack_sheets
from fg_plugin.datasets.face_alignment import CROP_SIZE, alignment_transform, crop_face
from fg_plugin.datasets.missing_data import missing_data
from fg_plugin.datasets.mtfl_annotations import FaceAnnotation, read_mtfl_annotations
from fg_plugin.image_decoding import UndecodableImageError, decode_image

URL = 'http://mmlab.ie.cuhk.edu.hk/projects/TCDCN/data/MTFL.zip'
ANGLES = (0.0, 45.0)
SHEET_IMAGES = 24
_DEMO = 'configs/demo_unet_faces.py'


@dataclass(frozen=True)
class FacePair:
    """One face in both variants: ``uint8`` images ``(3, 64, 64)`` and landmarks ``(5, 2)``."""

    images: tuple[np.ndarray, np.ndarray]
    landmarks: tuple[np.ndarray, np.ndarray]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--mtfl-root', type=Path, default=Path('data/MTFL'), help='folder with training.txt')
    parser.add_argument('--out-dir', type=Path, default=Path('data/mtfl_64'), help='folder to write to')
    parser.add_argument('--download', action='store_true', help='download the official archive when it is missing')
    parser.add_argument('--skip-corrupt', action='store_true', help='leave out unusable images instead of stopping')
    parser.add_argument('--seed', type=int, default=0, help='of the split and of the rotations of D-Rot')
    parser.add_argument(
        '--angles',
        type=float,
        nargs=2,
        default=ANGLES,
        metavar=('LEAST', 'LARGEST'),
        help='degrees that a face of D-Rot is rotated by, to either side; the split stays',
    )
    parser.add_argument('--test-size', type=int, default=1000, help='images in the test set')
    parser.add_argument('--overwrite', action='store_true', help='replace faces that were made with other options')
    parser.add_argument('--workers', type=int, default=2, help='processes')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    try:
        prepare(args)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def prepare(args: argparse.Namespace) -> None:
    """Read the archive, make both variants and write them.

    Raises:
        FileNotFoundError: If annotations or images are missing.
        ValueError: If an annotation is malformed, an image is unusable, or ``test_size`` or ``angles`` is out of range.
        FileExistsError: If ``out_dir`` holds faces of other rotations or another split, unless ``overwrite`` is set.
    """
    least, largest = args.angles
    if not 0 <= least < largest <= 180:
        raise ValueError(f'--angles should be 0 <= LEAST < LARGEST <= 180, but got {least:g} {largest:g}')
    if args.workers < 1:
        raise ValueError(f'--workers should be at least 1, but got {args.workers}')
    try:
        annotations = read_archive(args.mtfl_root)
    except FileNotFoundError:
        if not args.download:
            raise
        download(args.mtfl_root)
        annotations = read_archive(args.mtfl_root)
    if not 1 <= args.test_size < len(annotations):
        raise ValueError(f'--test-size should be in [1, {len(annotations) - 1}], but got {args.test_size}')
    # Drawn for every annotated face before any is skipped, so that a corrupt image changes no other.
    generator = np.random.default_rng(args.seed)
    angles = generator.uniform(-largest, largest, len(annotations))
    angles = np.sign(angles) * least + angles * ((largest - least) / largest)
    is_test = np.zeros(len(annotations), dtype=bool)
    is_test[generator.permutation(len(annotations))[: args.test_size]] = True
    if not args.overwrite:
        check_replaces_its_own(args.out_dir, annotations, angles, is_test)

    pairs: list[FacePair] = []
    kept: list[int] = []
    problems: list[str] = []
    results = map_faces(partial(make_pair, args.mtfl_root), annotations, angles.tolist(), args.workers)
    # Not rich's track(): an error would leave its generator, and the thread behind it, to the garbage collector.
    with closing(results), Progress() as progress:
        task = progress.add_task('Aligning faces', total=len(annotations))
        for position, result in enumerate(results):
            progress.advance(task)
            if isinstance(result, FacePair):
                pairs.append(result)
                kept.append(position)
            elif args.skip_corrupt:
                problems.append(result)
            else:
                raise ValueError(f'{result}. Restore the image, or pass --skip-corrupt to go on without such images')
    for problem in problems:
        print(f'skipped: {problem}')
    if not pairs:
        raise ValueError(f'every image of {args.mtfl_root} was skipped: {problems[0]}')
    write(args.out_dir, pairs, [annotations[position] for position in kept], angles[kept], is_test[kept])
    test = int(is_test[kept].sum())
    print(
        f'{args.out_dir}: {len(pairs)} faces in align.npz and rot.npz, {len(pairs) - test} for training, {test} for '
        f'test, {len(problems)} skipped. Look at {args.out_dir}/contact_sheet.png'
    )


def check_replaces_its_own(
    out_dir: Path, annotations: list[FaceAnnotation], angles: np.ndarray, is_test: np.ndarray
) -> None:
    """Check that faces in ``out_dir`` are those that are to be made.

    Raises:
        FileExistsError: If they are rotated or split otherwise: a training on them could not be repeated.
    """
    path = out_dir / 'rot.npz'
    try:
        with np.load(path) as old:
            test = np.zeros(len(old['names']), dtype=bool)
            test[old['test']] = True
            known = dict(
                zip(old['names'].tolist(), zip(old['angles'].tolist(), test.tolist(), strict=True), strict=True)
            )
    except (OSError, ValueError, LookupError, zipfile.BadZipFile):
        # Nothing there, or nothing that a training could use.
        return
    new = {
        annotation.name: (angle, tested)
        for annotation, angle, tested in zip(annotations, angles.tolist(), is_test.tolist(), strict=True)
    }
    if any(new.get(name) != face for name, face in known.items()):
        raise FileExistsError(
            f'{path} holds faces of other --angles, --seed, --test-size or --mtfl-root: give another --out-dir, or '
            f'--overwrite to replace them'
        )


def map_faces(
    function: Callable[[FaceAnnotation, float], FacePair | str],
    annotations: list[FaceAnnotation],
    angles: list[float],
    workers: int,
) -> Generator[FacePair | str, None, None]:
    """Yield ``function(annotation, angle)`` in order, from ``workers`` processes."""
    if workers == 1:
        yield from map(function, annotations, angles)
        return
    with ProcessPoolExecutor(workers) as pool:
        results = pool.map(function, annotations, angles, chunksize=32)
        try:
            yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def make_pair(root: Path, annotation: FaceAnnotation, angle: float) -> FacePair | str:
    """Crop one face for both variants, or return what is wrong with it."""
    path = root / annotation.name
    try:
        photograph = decode_image(path, 'RGB')
    except UndecodableImageError as error:
        return f'corrupt image {path}: {error}'
    limits = (photograph.width - 1, photograph.height - 1)
    if (annotation.landmarks < 0).any() or (annotation.landmarks > limits).any():
        return (
            f'{path}: landmarks should lie within the {photograph.width}x{photograph.height} image, but line '
            f'{annotation.line} of training.txt says {annotation.landmarks.tolist()}'
        )
    crops, points = [], []
    for degrees in (0.0, angle):
        try:
            transform = alignment_transform(annotation.landmarks, degrees)
        except ValueError as error:
            return f'{path} (line {annotation.line} of training.txt): {error}'
        landmarks = transform(annotation.landmarks)
        if (landmarks < 0).any() or (landmarks > CROP_SIZE - 1).any():
            return (
                f'{path} (line {annotation.line} of training.txt): a landmark leaves the {CROP_SIZE}x{CROP_SIZE} crop'
            )
        crops.append(np.asarray(crop_face(photograph, transform)).transpose(2, 0, 1))
        points.append(landmarks.astype(np.float32))
    return FacePair((crops[0], crops[1]), (points[0], points[1]))


def read_archive(root: Path) -> list[FaceAnnotation]:
    """Read the annotations and check that every image is there."""
    path = root / 'training.txt'
    if not path.is_file():
        raise _missing(f'MTFL is missing: {path} not found', root)
    annotations = read_mtfl_annotations(path)
    absent = [annotation for annotation in annotations if not (root / annotation.name).is_file()]
    if absent:
        first = absent[0]
        raise _missing(
            f'MTFL is incomplete: {len(absent)} of {len(annotations)} images not found, the first is '
            f'{root / first.name} (line {first.line} of training.txt)',
            root,
        )
    return annotations


def download(root: Path) -> None:
    """Download the official archive and unpack it into ``root``.

    Raises:
        FileNotFoundError: If the download fails or what arrives is not the archive.
    """
    root.mkdir(parents=True, exist_ok=True)
    archive = root / 'MTFL.zip'
    try:
        if not archive.is_file():
            with urllib.request.urlopen(URL, timeout=60) as response, write_atomically(archive) as file:
                total = int(response.headers.get('Content-Length', 0))
                with wrap_file(response, total=total, description='Downloading MTFL.zip') as source:
                    shutil.copyfileobj(source, file)
                if total and file.tell() != total:
                    raise OSError(f'{file.tell()} of {total} bytes arrived')
        _check_archive(archive)
        with zipfile.ZipFile(archive) as zipped:
            # The archive may hold its files in one top folder.
            top = next((name for name in zipped.namelist() if name.endswith('training.txt')), '')
            top = top.removesuffix('training.txt')
            for member in zipped.infolist():
                if member.filename.startswith(top) and member.filename != top:
                    member.filename = member.filename.removeprefix(top)
                    zipped.extract(member, root)
    except (OSError, zipfile.BadZipFile) as error:
        raise _missing(f'MTFL is missing: the download of {URL} to {archive} failed: {error}', root) from error


def _check_archive(archive: Path) -> None:
    """Read all of the archive, and remove it where that fails, so that it is downloaded anew next time.

    Raises:
        zipfile.BadZipFile: If it is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            damaged = zipped.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f'{damaged} is damaged in the archive')
    # zipfile lets what the decompression raises through, and takes a damaged header for what it cannot read.
    except Exception as error:
        archive.unlink()
        raise zipfile.BadZipFile(str(error) or type(error).__name__) from error


def write(
    out_dir: Path, pairs: list[FacePair], annotations: list[FaceAnnotation], angles: np.ndarray, is_test: np.ndarray
) -> None:
    """Write both variants and the contact sheet, or none of them."""
    out_dir.mkdir(parents=True, exist_ok=True)
    chosen = np.linspace(0, len(pairs) - 1, min(SHEET_IMAGES, len(pairs))).astype(int)
    sheets = []
    # All are renamed after the last is written: interrupted, they are not of two seeds.
    with ExitStack() as files:
        for variant, (stem, title) in enumerate((('align', '(a) D-Align'), ('rot', '(b) D-Rot'))):
            images = np.stack([pair.images[variant] for pair in pairs])
            landmarks = np.stack([pair.landmarks[variant] for pair in pairs])
            np.savez(
                files.enter_context(write_atomically(out_dir / f'{stem}.npz')),
                images=images,
                landmarks=landmarks,
                angles=angles if variant else np.zeros_like(angles),
                names=np.array([annotation.name for annotation in annotations]),
                train=np.flatnonzero(~is_test),
                test=np.flatnonzero(is_test),
            )
            sheets.append((title, contact_sheet(images[chosen], landmarks[chosen])))
        sheet = files.enter_context(write_atomically(out_dir / 'contact_sheet.png'))
        stack_sheets(sheets).save(sheet, format='PNG')


def _missing(what: str, root: Path) -> FileNotFoundError:
    return missing_data(what, f'pass --download, or unpack {URL} so that {root}/training.txt exists', _DEMO)


if __name__ == '__main__':
    main()
