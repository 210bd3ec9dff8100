"""What README.md tells readers to run."""

import re
import shlex
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```$', README, re.DOTALL | re.MULTILINE)


def test_examples_run_in_order():
    torch.manual_seed(0)
    names = {}
    for block in blocks('python'):
        exec(compile(block, 'README.md', 'exec'), names)
    assert names['logits'].shape == (4, 10)
    assert names['loss'].isfinite()


def test_named_files_exist():
    words = {word for block in blocks('bash') for word in shlex.split(block)}
    paths = {word for word in words if word.startswith(('configs/', 'tools/')) and word.endswith('.py')}
    assert {'tools/train.py', 'tools/test.py', 'configs/demo_unet_faces.py'} <= paths
    assert all((ROOT / path).is_file() for path in paths)


def test_table_names_every_config():
    rows = [line for line in README.splitlines() if line.startswith('| `')]
    named = {name for row in rows for name in re.findall('`(.+?)`', row.split('|')[1])} - {'_baseline'}
    demos = {name + '_baseline' for name in named if name.startswith('demo_')}
    assert named | demos == {path.stem for path in (ROOT / 'configs').glob('*.py')}
