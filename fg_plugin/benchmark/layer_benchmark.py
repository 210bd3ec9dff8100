"""The layer benchmark: every path of ``FilterRepoConv`` beside ``nn.Conv2d`` and timm's ``CondConv2d``."""

from collections.abc import Iterable
from typing import NamedTuple

from fg_plugin.benchmark.geometries import Setting
from fg_plugin.benchmark.memory import peak_bytes
from fg_plugin.benchmark.timing import Timing, interleaved_times
from fg_plugin.benchmark.variants import calls, compare
from fg_plugin.benchmark.verdict import Verdict, judge
from fg_plugin.layers.compute_paths import PATHS

MODES = ('inference', 'training')

# A path this many times slower than the fastest of its head in the first estimate is not measured further.
HOPELESS = 4.0

# Where the chosen path looks too slow, the paths of that head are timed once more, with this many times the rounds.
CLOSER_LOOK = 5


class Measurement(NamedTuple):
    """All alternatives for one setting in one mode.

    Attributes:
        setting: What was measured.
        mode: ``'inference'`` (forward without gradients) or ``'training'`` (forward and backward).
        times: Seconds of a call by variant, see ``variants.Comparison``.
        chosen: The path of the cost model, by head.
        skipped: Why a variant was not run.
        closer_look: Times of the paths of those heads whose chosen path looked too slow in ``times``.
    """

    setting: Setting
    mode: str
    times: dict[str, Timing]
    chosen: dict[str, str]
    skipped: dict[str, str]
    closer_look: dict[str, Timing]

    def verdicts(self) -> list[Verdict]:
        """Return for each head how the chosen path compares with the best, by the closer look where there was one."""
        return judge({**self.times, **self.closer_look}, self.chosen)


def measure_times(
    settings: Iterable[Setting],
    rounds: int,
    max_seconds: float,
    clock: str = 'wall',
) -> list[Measurement]:
    """Time all alternatives of each setting, in inference and in training.

    Args:
        settings: What to measure.
        rounds: Rounds of the interleaved measurement.
        max_seconds: Rounds end early after so long, see ``interleaved_times``.
        clock: See ``interleaved_times``.
    """
    measurements = []
    for setting in settings:
        comparison = compare(setting)
        for mode in MODES:
            candidates = calls(comparison, mode)
            times = interleaved_times(candidates, rounds, max_seconds, clock, hopeless_paths)
            chosen = {head: by_mode[mode] for head, by_mode in comparison.chosen.items()}
            doubtful = [verdict.head for verdict in judge(times, chosen) if not verdict.holds]
            closer_look: dict[str, Timing] = {}
            for head in doubtful:
                closer_look |= interleaved_times(
                    {name: call for name, call in candidates.items() if name in _path_names(head)},
                    CLOSER_LOOK * rounds,
                    CLOSER_LOOK * max_seconds,
                    clock,
                    hopeless_paths,
                )
            measurements.append(Measurement(setting, mode, times, chosen, comparison.skipped, closer_look))
    return measurements


def _path_names(head: str) -> set[str]:
    return {f'{head}/{path}' for path in PATHS}


def hopeless_paths(seconds: dict[str, float]) -> set[str]:
    """Return the paths that are more than ``HOPELESS`` times slower than the fastest path of their head."""
    fastest: dict[str, float] = {}
    paths = [(name, *name.split('/')) for name in seconds if name.partition('/')[2] in PATHS]
    for name, head, _ in paths:
        fastest[head] = min(fastest.get(head, seconds[name]), seconds[name])
    return {name for name, head, _ in paths if seconds[name] > HOPELESS * fastest[head]}


def measure_memory(settings: Iterable[Setting]) -> list[tuple[Setting, str, dict[str, int]]]:
    """Return each setting's peak memory in bytes by variant, in inference and in training."""
    peaks = []
    for setting in settings:
        comparison = compare(setting)
        for mode in MODES:
            peaks.append((setting, mode, {name: peak_bytes(call) for name, call in calls(comparison, mode).items()}))
    return peaks
