"""Whether the cost model chose well."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fg_plugin.benchmark.timing import Timing
from fg_plugin.layers.compute_paths import PATHS

# The chosen path is to be at most this much slower than the best one.
TOLERANCE = 0.10


class Verdict(NamedTuple):
    """The chosen path of one head in one measurement, beside the best one.

    Attributes:
        head: Name of the head.
        chosen: The path of the cost model.
        best: The path with the lowest median.
        slowdown: Median of the chosen path over that of the best, minus 1.
        within_spread: Whether the chosen path's first quartile reaches down to the best path's third quartile, so that
            this measurement does not tell the two apart.
    """

    head: str
    chosen: str
    best: str
    slowdown: float
    within_spread: bool

    @property
    def holds(self) -> bool:
        """Whether the chosen path is at most ``TOLERANCE`` slower than the best."""
        return self.slowdown <= TOLERANCE


def judge(times: Mapping[str, Timing], chosen: Mapping[str, str]) -> list[Verdict]:
    """Compare the chosen path of each head with its best path.

    Args:
        times: Times of variants by name; those named ``'<head>/<path>'`` are looked at.
        chosen: The chosen path by head.

    Raises:
        ValueError: If a chosen path was not measured.
    """
    verdicts = []
    for head, path in chosen.items():
        paths = {name: times[f'{head}/{name}'] for name in PATHS if f'{head}/{name}' in times}
        if path not in paths:
            raise ValueError(f"The chosen path should be among those measured, {tuple(paths)}, but got '{path}'.")
        best = min(paths, key=lambda name: paths[name].median)
        verdicts.append(
            Verdict(
                head,
                path,
                best,
                paths[path].median / paths[best].median - 1,
                paths[path].quartiles[0] <= paths[best].quartiles[1],
            )
        )
    return verdicts


def ratios(values: Mapping[str, Timing], reference: str = 'conv') -> dict[str, float]:
    """Return the median of each variant over that of ``reference``."""
    return {name: timing.median / values[reference].median for name, timing in values.items()}


def wins(measurements: Iterable[Any]) -> dict[str, dict[str, int]]:
    """Count for each path how often it was best and how often chosen, over all heads of all measurements."""
    counts = {path: {'best': 0, 'chosen': 0} for path in PATHS}
    for measurement in measurements:
        for verdict in measurement.verdicts():
            counts[verdict.best]['best'] += 1
            counts[verdict.chosen]['chosen'] += 1
    return counts
