"""The results of the studies as one page."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fg_plugin.analysis.variation import COLLAPSE_THRESHOLD
from fg_plugin.markdown import markdown_table, mean_and_std
from fg_plugin.studies.arms import ARMS, STUDIES
from fg_plugin.studies.cells import result_files
from fg_plugin.studies.training import Recipe

TITLES = {
    'cost': 'At equal cost',
    'heads': 'What holds the heads back',
    'warm': 'Warm start: a trained static network, converted and trained on',
}

HEADER = (
    *('network', 'n', 'test', 'against static', 'unseen', 'unseen, against static', 'training', 'swapped', 'collapsed'),
    *('parameters', 'MACs', 'training time', 'inference time'),
)

# What the others are compared to: from scratch, and warm.
REFERENCES = ('static', 'warm_static')

NO_RESULT = '(no result)'

Results = dict[int, dict[str, Any]]


def load_results(folder: Path) -> dict[str, Results]:
    """Return the results of one data set by arm and seed."""
    found: dict[str, Results] = {}
    for path, arm, seed in result_files(folder):
        found.setdefault(arm, {})[seed] = json.loads(path.read_text())
    return found


def load_costs(folder: Path) -> dict[str, dict[str, float]]:
    """Return what the networks of one data set cost, by arm; nothing if it was not measured."""
    path = folder / 'costs.json'
    return json.loads(path.read_text())['arms'] if path.is_file() else {}


def with_numbers(text: str, results: Path) -> str:
    """Return ``text`` with what it says of the networks filled in.

    ``{cifar10_16/residual}`` stands for the difference of that network to the static one of the same seed, in points of
    test accuracy, ``{cifar10_16/residual:unseen}`` for that on unseen variations. Where there is none, as while some
    are moved away to be trained again, it becomes ``NO_RESULT``.

    Args:
        text: Sentences or a table.
        results: Folder of the results of all data sets.

    Raises:
        ValueError: If there is no such network.
    """

    def difference(match: re.Match) -> str:
        data, arm, key = match['data'], match['arm'], match['key'] or 'test'
        if arm not in ARMS:
            raise ValueError(f'{match[0]} in the remarks should name a network of {", ".join(ARMS)}.')
        found = load_results(results / data)
        return _differences(found.get(arm, {}), found.get(_reference(arm), {}), key, digits=1) or NO_RESULT

    return re.sub(r'\{(?P<data>\w+)/(?P<arm>\w+)(:(?P<key>\w+))?\}', difference, text)


def data_page(folder: Path, remarks: Mapping[str, str]) -> str:
    """Return the section of one data set.

    Args:
        folder: Its results.
        remarks: Sentences by ``'<data>'``, ``'<data>/<study>'`` or, on unseen images, ``'<data>/kinds'``.
    """
    results, costs = load_results(folder), load_costs(folder)
    parts = [f'### {folder.name}', _schedule(results), remarks.get(folder.name, '')]
    for study, arms in STUDIES.items():
        rows = [_row(arm, results, costs) for arm in arms if arm in results]
        # The networks that its others would be compared to are in the first table already.
        if any(arm in results for arm in arms if study != 'heads' or arm not in STUDIES['cost']):
            shown = _without_empty_columns([HEADER, *rows])
            parts += [f'#### {TITLES[study]}', markdown_table(shown[0], shown[1:])]
            parts.append(remarks.get(f'{folder.name}/{study}', ''))
        if study == 'cost' and rows and costs:
            parts.append(f'![Accuracy and cost](studies/{folder.name}.png)')
        if study == 'cost':
            parts += [*_kinds(arms, results), remarks.get(f'{folder.name}/kinds', '')]
    return '\n\n'.join(filter(None, parts)) + '\n'


def _schedule(results: Mapping[str, Results]) -> str:
    """Return a sentence on the epochs, empty if they are the recipe's own."""
    epochs = {result['recipe']['epochs'] for arm in results if not ARMS[arm].warm for result in results[arm].values()}
    if epochs <= {Recipe().epochs}:
        return ''
    return f'Trained for {" or ".join(map(str, sorted(epochs)))} epochs.'


def _row(arm: str, results: Mapping[str, Results], costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    ours, cost = results[arm], costs.get(arm, {})
    reference = {} if arm in REFERENCES else results.get(_reference(arm), {})
    return [
        ARMS[arm].what,
        str(len(ours)),
        _mean(ours, 'test'),
        _differences(ours, reference, 'test'),
        _mean(ours, 'unseen'),
        _differences(ours, reference, 'unseen'),
        _mean(ours, 'train'),
        _mean(ours, 'swapped'),
        _collapsed(ours),
        f'{cost["parameters"]:,}' if cost else '',
        f'{cost["macs"] / 1e6:.2f} M' if cost else '',
        f'{cost["training"]:.2f}' if cost else '',
        f'{cost["inference"]:.2f}' if cost else '',
    ]


def _reference(arm: str) -> str:
    return REFERENCES[ARMS[arm].warm]


def _kinds(arms: Sequence[str], results: Mapping[str, Results]) -> list[str]:
    """Return the parts of the page that split the unseen images by their kind, none where they are of one kind."""
    split = {
        arm: {seed: result['unseen_by_kind'] for seed, result in results[arm].items() if 'unseen_by_kind' in result}
        for arm in arms
        if arm in results
    }
    kinds = list(dict.fromkeys(kind for seeds in split.values() for result in seeds.values() for kind in result))
    rows = [
        [ARMS[arm].what, str(len(seeds)), *(_mean(seeds, kind) for kind in kinds)]
        for arm, seeds in split.items()
        if seeds
    ]
    return ['#### Unseen, by kind', markdown_table(['network', 'n', *kinds], rows)] if rows else []


def _collapsed(results: Results) -> str:
    """Return how many layers of each seed have coefficients that hardly depend on the image."""
    variances = [result['variance'].values() for _, result in sorted(results.items()) if 'variance' in result]
    if not variances:
        return ''
    counts = ', '.join(str(sum(value < COLLAPSE_THRESHOLD for value in layers)) for layers in variances)
    return f'{counts} of {len(variances[0])}'


def _mean(results: Results, key: str) -> str:
    return mean_and_std([result[key] for result in results.values() if key in result])


def _differences(results: Results, reference: Results, key: str, digits: int = 2) -> str:
    """Return the differences to the network of the same seed."""
    pairs = [(result, reference[seed]) for seed, result in results.items() if seed in reference]
    return mean_and_std([ours[key] - other[key] for ours, other in pairs if key in ours and key in other], '+', digits)


def _without_empty_columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    kept = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    return [[row[column] for column in kept] for row in rows]
