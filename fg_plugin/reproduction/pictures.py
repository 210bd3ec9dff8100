"""Figures 5 and 6, which show images and points instead of numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fg_plugin.atomic_write import write_atomically, write_text_atomically
from fg_plugin.datasets.contact_sheet import contact_sheet, stack_sheets
from fg_plugin.datasets.mtfl import VARIANTS, MTFLLandmarks
from fg_plugin.reproduction.runs import RunError, RunName, has_last_checkpoint, last_checkpoint, when_trained

FIGURE5_CONFIG = 'fg_mnist_nenc20_s5'
FIGURE5_TITLE = 't-SNE of the coefficients, generated filters and feature maps of both MNIST convolutions'
FIGURE6_IMAGES = 16


def draw_figure5(name: RunName, root: Path, work_dirs: Path, results: Path) -> None:
    """Write ``fig5.png`` and ``fig5.json`` from the last checkpoint of a finished run.

    Args:
        name: The run.
        root: The checkout.
        work_dirs: Folder of the runs' work directories.
        results: Folder to write to.

    Raises:
        FileNotFoundError: If the run's checkpoint is not there.
        RunError: If the analysis ends with an error.
    """
    path = last_checkpoint(name, work_dirs, results, 'Figure 5')
    out = work_dirs / 'fig5' / name.folder
    config = f'configs/{name.config}.py'
    shown = [str(part.relative_to(root) if part.is_relative_to(root) else part) for part in (path, out)]
    command = [
        'tools/analyze_filters.py',
        config,
        shown[0],
        '--out-dir',
        shown[1],
        '--only',
        'tsne',
        'swap',
        'variance',
    ]
    ended = subprocess.run([sys.executable, *command], cwd=root, check=False)
    if ended.returncode:
        raise RunError(f'The analysis for Figure 5 ended with status {ended.returncode}.')
    summary: dict[str, Any] = json.loads((out / 'analysis.json').read_text())
    with np.load(out / 'tsne.npz') as points:
        summary['points'] = {kind: points[kind].round(2).tolist() for kind in points.files}
    made = {'command': ' '.join(['python', *command]), 'training_seed': name.seed}
    summary = {'title': FIGURE5_TITLE, **made, 'trained': when_trained(name, work_dirs), **summary}
    with write_atomically(results / 'fig5.png') as file:
        file.write((out / 'tsne.png').read_bytes())
    # Last, as it says which run the figure shows.
    write_text_atomically(results / 'fig5.json', json.dumps(summary) + '\n')


def is_figure5_of(name: RunName, work_dirs: Path, results: Path) -> bool:
    """Return whether Figure 5 is there and shows this run: its last checkpoint, where that is there."""
    path = results / 'fig5.json'
    if not path.is_file():
        return False
    summary = json.loads(path.read_text())
    if f'/{name.folder}/' not in summary['command']:
        return False
    return not has_last_checkpoint(name, work_dirs, results) or summary.get('trained') == when_trained(name, work_dirs)


def figure5_page(results: Path, remark: str) -> str:
    """Return the section of Figure 5, empty without its files."""
    path = results / 'fig5.json'
    if not path.is_file():
        return ''
    summary = json.loads(path.read_text())
    swap = summary['swap']
    lines = [
        f'## Figure 5: {FIGURE5_TITLE}',
        f'`{FIGURE5_CONFIG}`, seed {summary["training_seed"]}, {summary["images"]}. With the filters of another of '
        f'these images, the accuracy falls from {swap["accuracy_own"]:.1%} to {swap["accuracy_swapped"]:.1%}.',
        remark,
        f'![{FIGURE5_TITLE}](fig5.png)',
    ]
    return '\n\n'.join(filter(None, lines)) + '\n'


def draw_figure6(data_root: Path, out: Path) -> None:
    """Write samples of D-Align and D-Rot, as Figure 6 shows them. MTFL's images must not be passed on: nor must this.

    Raises:
        FileNotFoundError: If MTFL is not prepared.
    """
    sheets = []
    for variant, title in VARIANTS.items():
        data = MTFLLandmarks(str(data_root), variant, 'test', num_images=FIGURE6_IMAGES)
        sheets.append((title, contact_sheet(data.images.numpy(), data.targets['landmarks'].numpy())))
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as file:
        stack_sheets(sheets).save(file, format='PNG')
