"""Trained networks as files: a finished one is never trained again."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fg_plugin.atomic_write import write_atomically, write_text_atomically
from fg_plugin.benchmark.environment import environment
from fg_plugin.studies.arms import ARMS
from fg_plugin.studies.data import StudyData
from fg_plugin.studies.training import Recipe, train_arm, warm_recipe


def result_files(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """Return the results of a data set, each with its arm and seed.

    Files of other names, such as ``seed0_old.json`` or ``static_old/seed0.json``, are left alone.
    """
    for path in sorted(folder.glob('*/seed*.json')):
        seed = re.fullmatch(r'seed(0|[1-9]\d*)\.json', path.name)
        if seed is not None and path.parent.name in ARMS:
            yield path, path.parent.name, int(seed[1])


class Cells:
    """The results of one data set.

    Args:
        data_name: Its name.
        data: Its images.
        recipe: Of all trainings.
        results: Folder of the results; those of an arm are in ``<data_name>/<arm>/seed<k>.json``.
        work_dir: Folder of the weights that warm starts need.
    """

    def __init__(self, data_name: str, data: StudyData, recipe: Recipe, results: Path, work_dir: Path) -> None:
        self.data = data
        self.recipe = recipe
        self.folder = results / data_name
        self.weights = work_dir / data_name

    def check_recipe(self) -> None:
        """Check that there is no result of another recipe: the page compares all of a data set.

        Raises:
            ValueError: If there is one.
        """
        for path, arm, _ in result_files(self.folder):
            recipe = warm_recipe(self.recipe) if ARMS[arm].warm else self.recipe
            if json.loads(path.read_text())['recipe'] != recipe._asdict():
                raise ValueError(
                    f'{path} should be of the recipe {recipe}, as all networks of {self.folder.name}, but is of '
                    f'another: give its --epochs and --lr, move it away first, or give other --results.'
                )

    def is_finished(self, arm: str, seed: int) -> bool:
        """Return whether a result exists."""
        return self._path(arm, seed).is_file()

    def train(self, arm: str, seed: int) -> dict[str, Any]:
        """Train one network and keep its result, unless it has one already.

        Raises:
            ValueError: If a warm start would not begin with the same network as the others of its seed.
        """
        has_result = self.is_finished(arm, seed)
        start = self._static_weights(seed) if ARMS[arm].warm else None
        digest = {} if start is None else {'start': _digest(start)}
        if start is not None and not has_result:
            self._check_start(arm, seed, digest['start'])
        model, result = train_arm(ARMS[arm], self.data, self.recipe, seed, start)
        result.update(digest)
        if arm == 'static':
            self.weights.mkdir(parents=True, exist_ok=True)
            with write_atomically(self._weights(seed)) as file:
                torch.save(model.state_dict(), file)
        # A static network may be trained again for its weights alone, which are not among the results.
        if not has_result:
            self._keep(arm, seed, result)
        return result

    def _keep(self, arm: str, seed: int, result: dict[str, Any]) -> None:
        report = {'arm': arm, 'seed': seed, **result, **environment()}
        write_text_atomically(self._path(arm, seed), json.dumps(report, indent=1) + '\n')

    def _check_start(self, arm: str, seed: int, start: str) -> None:
        for path, other, of_seed in result_files(self.folder):
            # Results of before starts were recorded tell none.
            if of_seed == seed and ARMS[other].warm and json.loads(path.read_text()).get('start', start) != start:
                raise ValueError(
                    f'{other}/{path.name} should begin with the same network as {arm}, which is compared with it, but '
                    f'{self._weights(seed)} was trained anew since, on another machine or by other code: restore that '
                    f'file, or move the warm starts of seed {seed} in {self.folder} away to train all of them again.'
                )

    def _static_weights(self, seed: int) -> dict[str, Tensor]:
        if not (self.is_finished('static', seed) and self._weights(seed).is_file()):
            self.train('static', seed)
        return torch.load(self._weights(seed), weights_only=True)

    def _path(self, arm: str, seed: int) -> Path:
        return self.folder / arm / f'seed{seed}.json'

    def _weights(self, seed: int) -> Path:
        return self.weights / f'static_{self.recipe.epochs}ep_lr{self.recipe.lr:g}_seed{seed}.pth'


def _digest(weights: dict[str, Tensor]) -> str:
    """Return what tells weights from others, be it by rounding."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
