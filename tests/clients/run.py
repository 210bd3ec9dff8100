"""Tests fg_plugin inside a downstream package, in a virtual environment of its own, and writes down what happened.

python tests/clients/run.py mmpretrain
python tests/clients/run.py onedl-mmpretrain --venv work_dirs/clients/onedl-mmpretrain   # reused where it exists

Updates the client's part of results/clients.json, and makes results/clients.md from all of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'results' / 'clients.json'


class Client(NamedTuple):
    """What a client needs.

    Attributes:
        extra: Extras of fg_plugin, with commas between.
        requirement: The client, pinned.
        tests: File of its tests beside this one.
    """

    extra: str
    requirement: str
    tests: str


CLIENTS = {
    'mmpretrain': Client('mm', 'mmpretrain==1.2.0', 'test_mmpretrain.py'),
    'onedl-mmpretrain': Client('onedl', 'onedl-mmpretrain==1.3.6', 'test_mmpretrain.py'),
    'onedl-mmseg': Client('onedl,export', 'onedl-mmsegmentation==1.4.2', 'test_mmseg.py'),
}
PACKAGES = (
    *('fg-plugin', 'torch', 'torchvision', 'timm', 'numpy', 'mmengine', 'mmcv-lite', 'mmpretrain'),
    *('onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'onedl-mmsegmentation'),
)
# Tests of one backbone each, in the order of the table.
CHECKS = {
    'test_build': 'build',
    'test_preserve': 'output preserved',
    'test_train_step': 'train_step',
    'test_val_step': 'val_step',
    'test_init_weights': 'init_weights',
    'test_keeps_given_weights': 'keeps given weights',
    'test_frozen_stages': 'frozen_stages',
    'test_norm_eval': 'norm_eval',
    'test_load_from': 'load_from',
    'test_pretrained_init_cfg': 'Pretrained init_cfg',
    'test_checkpointing': 'with_cp',
}


def install(venv: Path, client: Client) -> Path:
    """Create the environment where it is missing; return its interpreter."""
    python = venv / 'bin' / 'python'
    if not python.exists():
        subprocess.run([sys.executable, '-m', 'venv', venv], check=True)
        packages = ['-e', f'{ROOT}[{client.extra}]', client.requirement, 'pytest', 'pytest-timeout']
        subprocess.run([python, '-m', 'pip', 'install', '--quiet', *packages], check=True)
    return python


def run_tests(python: Path, client: Client) -> list[dict]:
    """Run the client's tests; return one record for each."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, 'report.xml')
        tests = str(Path('tests', 'clients', client.tests))
        options = ['-m', 'slow', '-q', '-p', 'no:cacheprovider', f'--junitxml={report}', '--tb=short']
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        subprocess.run([python, '-m', 'pytest', *options, tests], cwd=ROOT, env=environment, check=False)
        return [_record(case) for case in ElementTree.parse(report).iter('testcase')]


def _record(case: ElementTree.Element) -> dict:
    name, _, backbone = case.get('name', '').partition('[')
    record: dict = {'test': name, 'backbone': backbone.rstrip(']'), 'outcome': 'passed', 'message': ''}
    for outcome, tag in (('skipped', 'skipped'), ('failed', 'failure'), ('failed', 'error')):
        element = case.find(tag)
        if element is not None:
            record.update(outcome=outcome, message=(element.get('message') or '').splitlines()[0])
    properties = {entry.get('name'): entry.get('value') for entry in case.iter('property')}
    return {**record, 'seconds': float(case.get('time', 0)), **({'properties': properties} if properties else {})}


def versions(python: Path) -> dict[str, str]:
    """The versions of the packages that matter, as installed in the environment."""
    listed = subprocess.run([python, '-m', 'pip', 'list', '--format=json'], check=True, capture_output=True, text=True)
    installed = {package['name']: package['version'] for package in json.loads(listed.stdout)}
    return {package: installed[package] for package in PACKAGES if package in installed}


def hardware(python: Path) -> dict:
    """Interpreter and processor of the environment, as in the other results."""
    code = 'import json; from fg_plugin.benchmark.environment import environment as e; print(json.dumps(e()))'
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([python, '-c', code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return {key: value for key, value in json.loads(done.stdout).items() if key != 'command'}


def table(results: dict[str, dict]) -> str:
    """The page of all clients."""
    parts = [
        '# Downstream packages',
        'Each client is installed in a virtual environment of its own, and its backbones run inside its own model with '
        '`FGBackboneWrapper` around them. `n/a`: the backbone has no such option. The raw log is '
        '[clients.json](clients.json).',
        '- `output preserved`: right after the conversion, the largest difference of a feature map to the plain '
        "backbone's, relative to the largest value (float32); at most 1e-5.\n"
        "- `init_weights`: afterwards the output equals the plain backbone's after its own, from the same weights and "
        'random numbers.\n'
        "- `keeps given weights`: a backbone given as a module keeps its weights, whatever an outer model's `init_cfg` "
        'says.\n'
        '- `load_from`: a checkpoint of the model without the wrapper loads strictly, and gives the same output.\n'
        "- `Pretrained init_cfg`: the same for such a checkpoint in the inner backbone (`prefix='backbone.'`).\n"
        '- `with_cp`: gradients with checkpointing equal those without (float64).\n'
        '- `train_step` asserts a gradient for every parameter of the backbone, `frozen_stages` also that the heads of '
        'frozen convolutions are frozen, `norm_eval` that it lasts after `train()`.',
    ]
    for name, result in results.items():
        parts += [f'## {name}', _setting(result), _backbones(result['tests']), _others(result['tests'])]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _setting(result: dict) -> str:
    packages = ', '.join(f'{package} {number}' for package, number in result['versions'].items())
    counts = {
        outcome: sum(test['outcome'] == outcome for test in result['tests'])
        for outcome in ('passed', 'failed', 'skipped')
    }
    machine = result['environment']
    return (
        f'`{result["command"]}`: {counts["passed"]} passed, {counts["failed"]} failed, {counts["skipped"]} not '
        f'applicable, in {result["seconds"]:.0f} s.\n\n{packages}; Python {machine["python"]}, {machine["cpu"]}, '
        f'{machine["threads"]} thread.'
    )


def _backbones(tests: list[dict]) -> str:
    rows = ['| backbone | converted | ' + ' | '.join(CHECKS.values()) + ' |', '|---' * (len(CHECKS) + 2) + '|']
    for backbone in dict.fromkeys(test['backbone'] for test in tests if test['backbone']):
        by_check = {test['test']: test for test in tests if test['backbone'] == backbone}
        properties = by_check['test_build'].get('properties', {})
        cells = [_cell(by_check.get(check)) for check in CHECKS]
        rows.append(f'| {backbone} | {properties.get("converted", "-")} | ' + ' | '.join(cells) + ' |')
    reasons = {
        (test['backbone'], test['properties']['reasons']) for test in tests if test.get('properties', {}).get('reasons')
    }
    notes = [f'Convolutions of {backbone} that stay static: {reason}.' for backbone, reason in sorted(reasons)]
    failures = [
        f'{test["test"]}[{test["backbone"]}]: {test["message"]}' for test in tests if test['outcome'] == 'failed'
    ]
    return '\n'.join(rows) + ''.join(f'\n\n{note}' for note in [*notes, *failures])


def _cell(test: dict | None) -> str:
    if test is None:
        return '-'
    if 'difference' in test.get('properties', {}):
        return f'{float(test["properties"]["difference"]):.1e}'
    return {'passed': 'yes', 'skipped': 'n/a', 'failed': '**no**'}[test['outcome']]


def _others(tests: list[dict]) -> str:
    return '\n'.join(f'- `{test["test"]}`: {test["outcome"]}' for test in tests if not test['backbone'])


def main() -> int:
    """Test one client; exits with 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('client', choices=CLIENTS)
    parser.add_argument('--venv', type=Path, help='environment (default: work_dirs/clients/CLIENT)')
    args = parser.parse_args()
    client = CLIENTS[args.client]
    python = install(args.venv or ROOT / 'work_dirs' / 'clients' / args.client, client)
    start = time.perf_counter()
    tests = run_tests(python, client)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[args.client] = {
        'command': f'python tests/clients/run.py {args.client}',
        'versions': versions(python),
        'environment': hardware(python),
        'seconds': time.perf_counter() - start,
        'tests': tests,
    }
    RESULTS.write_text(json.dumps({name: results[name] for name in CLIENTS if name in results}, indent=1) + '\n')
    RESULTS.with_suffix('.md').write_text(table(json.loads(RESULTS.read_text())))
    return int(not tests or any(test['outcome'] == 'failed' for test in tests))


if __name__ == '__main__':
    sys.exit(main())
