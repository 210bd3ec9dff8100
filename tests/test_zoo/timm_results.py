"""Sums up runs of timm's own model tests on converted networks (see timm_plugin.py): a tool, not a test.

    python tests/test_zoo/timm_results.py results/timm_tests.json RUN.xml [RERUN.xml ...]

The XML files are those of pytest's ``--junitxml``. A test that several of them hold counts as in the last one.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path

from fg_plugin.benchmark.environment import environment


def outcomes(path: Path) -> dict[str, tuple[str, str]]:
    """Return the outcome of each test of a run, and what its message begins with."""
    found = {}
    for case in ElementTree.parse(path).getroot().iter('testcase'):
        outcome, message = 'passed', ''
        for kind in ('failure', 'error', 'skipped'):
            element = case.find(kind)
            if element is not None:
                expected = element.get('type') == 'pytest.xfail'
                outcome = 'expected to differ' if expected else kind.replace('failure', 'failed')
                message = (element.get('message') or '').splitlines()[0][:200] if element.get('message') else ''
        found[case.get('name', '')] = outcome, message
    return found


def summary(runs: list[dict[str, tuple[str, str]]]) -> dict:
    """Return the number of tests by outcome, in all and for each function, and the tests that did not pass."""
    merged = {name: outcome for run in runs for name, outcome in run.items()}
    by_function: dict[str, Counter] = defaultdict(Counter)
    for name, (outcome, _) in merged.items():
        by_function[name.partition('[')[0]][outcome] += 1
    return {
        'outcomes': dict(Counter(outcome for outcome, _ in merged.values())),
        'by_function': {name: dict(counts) for name, counts in sorted(by_function.items())},
        'not_passed': {name: list(outcome) for name, outcome in sorted(merged.items()) if outcome[0] != 'passed'},
    }


if __name__ == '__main__':
    out, *paths = map(Path, sys.argv[1:])
    facts = {key: value for key, value in environment().items() if key != 'command'}
    out.write_text(json.dumps({**facts, **summary([outcomes(path) for path in paths])}, indent=1) + '\n')
