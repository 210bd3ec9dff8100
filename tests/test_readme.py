"""What README.md tells readers to run."""

import ast
import inspect
import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
import timm
import torch

import fg_plugin

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```$', README, re.DOTALL | re.MULTILINE)


def table_rows(heading):
    lines = README.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f'| {heading} |'))
    return list(takewhile(lambda line: line.startswith('| '), lines[start + 2 :]))


def anchors(file):
    headings = re.findall(r'^#+ (.+)$', file.read_text(encoding='utf-8'), re.MULTILINE)
    return [re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings]


def test_examples_run_in_order(tmp_path, monkeypatch):
    # They save below the working directory.
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    for block in blocks('python'):
        exec(compile(block, 'README.md', 'exec'), names)
    assert type(names['net']).__name__ == 'ResNet'
    assert names['logits'].shape == (4, 10)
    assert names['loss'].isfinite()
    assert names['maps'].shape == (4, 16, 32, 32)
    optimizer, tuned = names['optimizer'], names['tuned']
    assert sum(len(group['params']) for group in optimizer.param_groups) == len(list(tuned.parameters()))
    assert all(group['params'] for group in optimizer.param_groups)


def test_named_files_exist():
    words = {word for block in blocks('bash') for word in shlex.split(block)}
    folders = ('configs/', 'tools/', 'examples/')
    paths = {word for word in words if word.startswith(folders) and word.endswith('.py')}
    assert {'tools/train.py', 'tools/test.py', 'configs/demo_unet_faces.py', 'examples/finetune_timm.py'} <= paths
    links = [link.split('#') for link in re.findall(r'\]\((.+?)\)', README) if not link.startswith('http')]
    assert links
    for path, *anchor in links:
        file = ROOT / (path or 'README.md')
        assert file.is_file()
        assert not anchor or anchor[0] in anchors(file)
    assert all((ROOT / path).is_file() for path in paths)


def test_table_names_every_option_of_the_conversion():
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(fg_plugin.convert_).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    rows = [[cell.strip() for cell in row.split('|')[1:3]] for row in table_rows('option')]
    shown = {name: default for names, default in rows for name in re.findall('`(.+?)`', names)}
    assert shown.keys() == options.keys()
    for name, default in shown.items():
        if default.startswith('`'):
            assert ast.literal_eval(default.strip('`')) == options[name]
        else:
            assert options[name] is None


def test_table_of_heads_has_their_parameters():
    heads = {'low-rank (default)': {}, 'residual': {'fg_head': 'residual'}, 'full': {'fg_head': 'full'}}
    columns = re.search(r'\| network \| plain \|(.*)\|\n', README)[1].split('|')
    assert [column.strip() for column in columns] == list(heads)
    for name in ('resnet18', 'resnet50', 'efficientnet_b0', 'convnext_tiny'):
        numbers = [float(cell.replace(',', '')) for cell in re.search(rf'\| `{name}` \|(.*)\|\n', README)[1].split('|')]
        with torch.device('meta'):
            models = [timm.create_model(name), *(timm.create_model(f'fg_{name}', **head) for head in heads.values())]
        for number, model in zip(numbers, models, strict=True):
            rounding = 0.05 if number < 100 else 0.5
            assert number == pytest.approx(sum(weight.numel() for weight in model.parameters()) / 1e6, abs=rounding)


def test_table_names_every_config():
    named = {name for row in table_rows('config') for name in re.findall('`(.+?)`', row.split('|')[1])} - {'_baseline'}
    demos = {name + '_baseline' for name in named if name.startswith('demo_')}
    assert named | demos == {path.stem for path in (ROOT / 'configs').glob('*.py')}


def test_the_layout_names_every_part():
    layout = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8').split('## Layout')[1].split('## Adding')[0]
    parts = [path for path in (ROOT / 'fg_plugin').iterdir() if (path / '__init__.py').is_file()]
    parts += (ROOT / 'fg_plugin').glob('[!_]*.py')
    tools = (ROOT / 'tools').glob('*.py')
    names = [f'{path.name}/' if path.is_dir() else path.name for path in (*parts, *tools)]
    assert len(names) > 20
    assert [name for name in names if f' {name}' not in layout] == []


def test_imports_run_down_the_layout():
    layout = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8').split('## Layout')[1].split('## Adding')[0]
    # Such as 'report.py, macs.py' and 'layers/'.
    rows = re.findall(r'^ {6}((?:\w+(?:\.py|/),? )+)', layout, re.MULTILINE)
    row = {part: number for number, parts in enumerate(rows) for part in re.findall(r'\w+(?=\.py|/)', parts)}
    upwards = []
    for path in (ROOT / 'fg_plugin').rglob('*.py'):
        part = path.relative_to(ROOT / 'fg_plugin').parts[0].removesuffix('.py')
        if part != '__init__':
            imported = imported_parts(ast.parse(path.read_text(encoding='utf-8')))
            upwards += [f'{path.name} imports {name}' for name in imported if row[name] < row[part]]
    assert len(row) > 20
    assert upwards == []


def imported_parts(node):
    """Return the parts of fg_plugin that a module imports when it runs, wherever in it."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
        return set()
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        modules = [f'{node.module}.{alias.name}' for alias in node.names]
    found = {name.split('.')[1] for name in modules if name.startswith('fg_plugin.')}
    return found.union(*(imported_parts(child) for child in ast.iter_child_nodes(node)))
