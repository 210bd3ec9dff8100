"""Time of forward and backward, and of inference, relative to the static network, measured side by side."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fg_plugin.benchmark.timing import interleaved_times
from fg_plugin.generator import pending_reconstruction_loss
from fg_plugin.studies.arms import ARMS, static
from fg_plugin.studies.data import StudyData
from fg_plugin.studies.training import normalise

BATCH_SIZE = 128


def relative_times(data: StudyData, arms: tuple[str, ...], rounds: int = 15) -> dict[str, dict[str, float]]:
    """Return by arm ``training`` and ``inference``: CPU time of a batch of 128, as a multiple of the static network's.

    Training is forward and backward; the optimizer, which takes a time for each parameter, is not counted.

    Args:
        data: The images.
        arms: Names; the static network is measured besides.
        rounds: Rounds of measurement, of which the median counts.
    """
    images = normalise(data, data.train.pixels[:BATCH_SIZE])
    labels = data.train.labels[:BATCH_SIZE]
    networks = {name: ARMS[name].build(data, static(data)) for name in dict.fromkeys(('static', *arms))}

    def step(network: nn.Module) -> Callable[[], object]:
        def run() -> None:
            network.train()
            loss = F.cross_entropy(network(images), labels)
            reconstruction = pending_reconstruction_loss(network)
            (loss if reconstruction is None else loss + reconstruction).backward()

        return run

    def predict(network: nn.Module) -> Callable[[], object]:
        def run() -> None:
            network.eval()
            with torch.no_grad():
                network(images)

        return run

    times: dict[str, dict[str, float]] = {name: {} for name in networks}
    for mode, make in (('training', step), ('inference', predict)):
        calls = {name: make(network) for name, network in networks.items()}
        measured = interleaved_times(calls, rounds, clock='cpu')
        for name, timing in measured.items():
            times[name][mode] = timing.median / measured['static'].median
    return times
