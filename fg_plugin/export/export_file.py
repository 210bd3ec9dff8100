"""Write a trained model into a file of another format."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fg_plugin.atomic_write import write_atomically
from fg_plugin.export.frozen import frozen_bytes
from fg_plugin.export.program import onnx_bytes, program_bytes
from fg_plugin.export.weights import weights_bytes
from fg_plugin.inference import LoadedModel

# Loaders tell by it how a file is to be read.
SUFFIXES = {
    'onnx': ('.onnx',),
    'exported_program': ('.pt2',),
    'safetensors': ('.safetensors',),
    'frozen': ('.pth', '.pt', '.safetensors'),
}
FORMATS = tuple(SUFFIXES)


def default_path(checkpoint: Path, format_name: str) -> Path:
    """Return where an export is written if nothing else is said: beside ``checkpoint``."""
    stem = f'{checkpoint.stem}_frozen' if format_name == 'frozen' else checkpoint.stem
    return checkpoint.with_name(stem + SUFFIXES[format_name][0])


def check_output(format_name: str, out: Path, overwrite: bool) -> None:
    """Refuse a name that belongs to another format, and to replace a file without being told to.

    This is done before any work.

    Raises:
        FileExistsError: If ``out`` exists and ``overwrite`` is false.
        IsADirectoryError: If it is a folder.
        ValueError: If it does not end as files of the format do.
    """
    if out.is_dir():
        raise IsADirectoryError(f'out should be a file, but {out} is a folder')
    if out.suffix not in SUFFIXES[format_name]:
        raise ValueError(
            f'out of format {format_name} should end in {" or ".join(SUFFIXES[format_name])}, but got {out}, which '
            f'loaders would read as another format'
        )
    if out.exists() and not overwrite:
        raise FileExistsError(f'out should be a new file, but {out} exists: give another --out, or --overwrite')


def export_file(
    loaded: LoadedModel, format_name: str, out: Path, *, overwrite: bool = False, batches: Sequence[Tensor] = ()
) -> str:
    """Export ``loaded`` and check the result; ``out`` appears only if it passes, and complete.

    Args:
        loaded: The model; it loses what the format does not need (its decoder, its generator).
        format_name: ``'onnx'``, ``'exported_program'``, ``'safetensors'`` or ``'frozen'``.
        out: The file to write. It ends in ``.onnx``, ``.pt2`` or ``.safetensors``, as the format says; that of a frozen
            network in ``.pth``, ``.pt`` or ``.safetensors``.
        overwrite: Whether to replace it if it exists.
        batches: Inputs ``(B, C, H, W)`` whose mean filters a frozen network has.

    Returns:
        What the check says.

    Raises:
        FileExistsError: If ``out`` exists and ``overwrite`` is false.
        ModuleNotFoundError: If the format needs a package that is not installed.
        ExportMismatchError: If the exported network does not compute what ``loaded`` computes.
        IsADirectoryError: If it is a folder.
        ValueError: For an unknown format, or a model or a name of a file that does not fit it.
    """
    if format_name not in FORMATS:
        raise ValueError(f'format should be one of {FORMATS}, but got {format_name!r}')
    check_output(format_name, out, overwrite)
    if format_name == 'frozen':
        content, report = frozen_bytes(loaded, batches, out.suffix)
    else:
        to_bytes = {'onnx': onnx_bytes, 'exported_program': program_bytes, 'safetensors': weights_bytes}
        content, report = to_bytes[format_name](loaded)
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as file:
        file.write(content)
    return report
