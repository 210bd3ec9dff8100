"""Times of alternatives that are compared with each other."""

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

CLOCKS: dict[str, Callable[[], float]] = {'wall': time.perf_counter, 'cpu': time.process_time}

# A single reading lasts at least this long, so that the clock's resolution and a Python call do not show.
MIN_SECONDS = 1e-3

MIN_ROUNDS = 3


class Timing(NamedTuple):
    """Seconds of one call.

    Attributes:
        median: Median over the rounds.
        quartiles: First and third quartile.
        rounds: Number of rounds.
        dropped: Whether it was not worth repeating, and this is the first estimate.
    """

    median: float
    quartiles: tuple[float, float]
    rounds: int
    dropped: bool = False


def interleaved_times(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    max_seconds: float = math.inf,
    clock: str = 'wall',
    hopeless: Callable[[dict[str, float]], set[str]] = lambda _: set(),
) -> dict[str, Timing]:
    """Time all variants in turn, round by round, so that a change of the machine's speed meets all of them.

    Args:
        variants: The calls to time, by name.
        rounds: Rounds of measurement, after two calls of each variant, an unmeasured one and an estimate.
        max_seconds: No further round begins after so long, unless it is among the first ``MIN_ROUNDS``.
        clock: ``'wall'``, or ``'cpu'`` for the CPU time of this process.
        hopeless: From each variant's first estimate (seconds), the names not worth repeating: they keep it.
    """
    now = CLOCKS[clock]
    first = {name: _first_estimate(call, now) for name, call in variants.items()}
    numbers = {name: max(1, math.ceil(MIN_SECONDS / max(seconds, 1e-6))) for name, seconds in first.items()}
    dropped = hopeless(first)
    times: dict[str, list[float]] = {name: [first[name]] if name in dropped else [] for name in variants}
    deadline = time.perf_counter() + max_seconds
    for done in range(rounds):
        if done >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for name, call in variants.items():
            if name in dropped:
                continue
            start = now()
            for _ in range(numbers[name]):
                call()
            times[name].append((now() - start) / numbers[name])
    return {name: _summarise(seconds, name in dropped) for name, seconds in times.items()}


def _first_estimate(call: Callable[[], object], now: Callable[[], float]) -> float:
    # The first call may allocate what the others find, or compile.
    call()
    start = now()
    call()
    return now() - start


def _summarise(seconds: list[float], dropped: bool) -> Timing:
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return Timing(float(median), (float(low), float(high)), len(seconds), dropped)
