import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fg_plugin.reproduction import pictures
from fg_plugin.reproduction.pictures import draw_figure5, draw_figure6, figure5_page, is_figure5_of
from fg_plugin.reproduction.runs import RunError, RunName

NAME = RunName(pictures.FIGURE5_CONFIG, 2, None)


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a finished run, whose analysis tool writes the same files as the real one."""
    tool = tmp_path / 'tools' / 'analyze_filters.py'
    tool.parent.mkdir()
    tool.write_text(
        """
import json, sys
from pathlib import Path
import numpy as np
assert Path(sys.argv[2]).is_file()
out = Path(sys.argv[sys.argv.index('--out-dir') + 1])
out.mkdir(parents=True)
np.savez(out / 'tsne.npz', **{'conv1/filters': np.array([[0.123, 4.567]])})
(out / 'tsne.png').write_bytes(b'picture')
swap = {'accuracy_own': 0.99, 'accuracy_swapped': 0.2}
(out / 'analysis.json').write_text(json.dumps({'images': '500 images', 'swap': swap}))
"""
    )
    work_dir = tmp_path / 'work_dirs' / NAME.folder
    work_dir.mkdir(parents=True)
    (work_dir / 'epoch_20.pth').touch()
    (work_dir / 'metrics.json').write_text('{"finished": "today"}')
    # MMEngine writes the path where the run was made.
    (work_dir / 'last_checkpoint').write_text('/elsewhere/epoch_20.pth')
    (tmp_path / 'results').mkdir()
    return tmp_path


def draw(checkout: Path, name: RunName = NAME) -> None:
    draw_figure5(name, checkout, checkout / 'work_dirs', checkout / 'results')


def test_figure_5_is_kept_with_its_points(checkout):
    draw(checkout)
    kept = json.loads((checkout / 'results' / 'fig5.json').read_text())
    assert kept['points'] == {'conv1/filters': [[0.12, 4.57]]}
    assert kept['command'].startswith(f'python tools/analyze_filters.py configs/{NAME.config}.py work_dirs/')
    assert kept['training_seed'] == 2
    assert (checkout / 'results' / 'fig5.png').read_bytes() == b'picture'
    folders = (checkout / 'work_dirs', checkout / 'results')
    assert is_figure5_of(NAME, *folders)
    assert not is_figure5_of(NAME._replace(seed=1), *folders)
    assert not is_figure5_of(NAME._replace(epochs=5), *folders)
    assert not is_figure5_of(NAME, folders[0], checkout)
    page = figure5_page(checkout / 'results', 'A remark.')
    assert (
        'seed 2, 500 images. With the filters of another of these images, the accuracy falls from 99.0% to 20.0%'
        in page
    )
    assert 'A remark.\n\n![t-SNE' in page


def test_figure_5_of_an_earlier_training_is_another(checkout):
    draw(checkout)
    (checkout / 'work_dirs' / NAME.folder / 'metrics.json').write_text('{"finished": "tomorrow"}')
    folders = (checkout / 'work_dirs', checkout / 'results')
    assert not is_figure5_of(NAME, *folders)
    # Without a checkpoint, nothing else can be drawn.
    (checkout / 'work_dirs' / NAME.folder / 'epoch_20.pth').unlink()
    assert is_figure5_of(NAME, *folders)


def test_figure_5_needs_a_checkpoint(checkout):
    assert figure5_page(checkout / 'results', 'A remark.') == ''
    with pytest.raises(FileNotFoundError, match=r'checkpoint of fg_mnist_nenc20_s5/seed1, .* Choose another seed'):
        draw(checkout, NAME._replace(seed=1))
    (checkout / 'work_dirs' / NAME.folder / 'epoch_20.pth').unlink()
    with pytest.raises(FileNotFoundError, match=r'epoch_20\.pth does not exist'):
        draw(checkout)


def test_a_failed_analysis_leaves_no_figure(checkout):
    (checkout / 'tools' / 'analyze_filters.py').write_text('import sys; sys.exit(3)')
    with pytest.raises(RunError, match='ended with status 3'):
        draw(checkout)
    assert not list((checkout / 'results').iterdir())


def test_figure_6_shows_both_variants(tmp_path):
    for variant in ('align', 'rot'):
        np.savez(
            tmp_path / f'{variant}.npz',
            images=np.full((20, 3, 64, 64), 200, dtype=np.uint8),
            landmarks=np.full((20, 5, 2), 30.0, dtype=np.float32),
            train=np.arange(2),
            test=np.arange(2, 20),
        )
    draw_figure6(tmp_path, tmp_path / 'out' / 'fig6.png')
    sheet = Image.open(tmp_path / 'out' / 'fig6.png')
    assert sheet.height > 4 * 64 * 3
    with pytest.raises(FileNotFoundError, match='MTFL is not prepared'):
        draw_figure6(tmp_path / 'missing', tmp_path / 'fig6.png')
