"""The model benchmark: whole networks with generated filters beside others, in inference and in a training step."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fg_plugin.benchmark.layer_benchmark import HOPELESS, MODES
from fg_plugin.benchmark.memory import peak_bytes
from fg_plugin.benchmark.networks import NETWORKS, REFERENCE
from fg_plugin.benchmark.timing import Timing, interleaved_times


class ModelSetting(NamedTuple):
    """What the networks see.

    Attributes:
        batch: Batch size B.
        side: Height and width of the images.
        channels_last: Whether images and weights are in channels_last format.
    """

    batch: int
    side: int
    channels_last: bool


class ModelMeasurement(NamedTuple):
    """All networks for one setting in one mode.

    Attributes:
        setting: What the networks saw.
        mode: ``'inference'`` (forward, in evaluation mode, without gradients) or ``'training'`` (forward, loss,
            backward and a step of SGD with momentum).
        times: Seconds of a call by network.
        peaks: Peak memory of a call in bytes by network, see ``memory.peak_bytes``.
    """

    setting: ModelSetting
    mode: str
    times: dict[str, Timing]
    peaks: dict[str, int]


def measure_models(
    settings: Iterable[ModelSetting],
    networks: Sequence[str],
    rounds: int,
    max_seconds: float,
    clock: str = 'wall',
    device: str = 'cpu',
    compiled: bool = False,
) -> list[ModelMeasurement]:
    """Time the networks in turn for each setting, then measure their memory.

    Args:
        settings: What the networks see.
        networks: Names in ``NETWORKS``.
        rounds: Rounds of the interleaved measurement.
        max_seconds: Rounds end early after so long, see ``interleaved_times``.
        clock: See ``interleaved_times``.
        device: ``'cpu'`` or a GPU, whose work each call waits for.
        compiled: Whether ``torch.compile`` compiles the networks, each for the setting's shapes.
    """
    measurements = []
    for setting in settings:
        torch.compiler.reset()
        prepared = {name: _prepare(NETWORKS[name], setting, device) for name in networks}
        if compiled:
            prepared = {
                name: cast(nn.Module, torch.compile(network, dynamic=False)) for name, network in prepared.items()
            }
        torch.manual_seed(0)
        images = torch.randn(setting.batch, 3, setting.side, setting.side, device=device)
        images = images.to(memory_format=_memory_format(setting))
        for mode in MODES:
            calls = {name: _waiting(_call(network, images, mode), device) for name, network in prepared.items()}
            times = interleaved_times(calls, rounds, max_seconds, clock, hopeless_networks)
            peaks = {name: _peak_bytes(call, device) for name, call in calls.items()}
            measurements.append(ModelMeasurement(setting, mode, times, peaks))
    return measurements


def hopeless_networks(seconds: dict[str, float]) -> set[str]:
    """Return the networks that are more than ``HOPELESS`` times slower than the static one."""
    return {name for name, estimate in seconds.items() if estimate > HOPELESS * seconds[REFERENCE]}


def count_parameters(networks: Sequence[str]) -> dict[str, int]:
    """Return the number of parameters of each of ``networks``."""
    return {
        name: sum(parameter.numel() for parameter in NETWORKS[name]().parameters() if parameter.requires_grad)
        for name in networks
    }


def _memory_format(setting: ModelSetting) -> torch.memory_format:
    return torch.channels_last if setting.channels_last else torch.contiguous_format


def _prepare(build: Callable[[], nn.Module], setting: ModelSetting, device: str) -> nn.Module:
    torch.manual_seed(0)
    return build().to(device=device, memory_format=_memory_format(setting))  # type: ignore[call-overload]


def _call(network: nn.Module, images: Tensor, mode: str) -> Callable[[], object]:
    if mode == 'inference':
        network.eval()

        def infer() -> Tensor:
            with torch.no_grad():
                return network(images)

        return infer
    network.train()
    labels = torch.arange(len(images), device=images.device)
    # A small rate: the weights stay near where they began for any number of rounds.
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def _waiting(call: Callable[[], object], device: str) -> Callable[[], object]:
    if device == 'cpu':
        return call

    def call_and_wait() -> None:
        call()
        torch.cuda.synchronize(device)

    return call_and_wait


def _peak_bytes(call: Callable[[], object], device: str) -> int:
    if device == 'cpu':
        return peak_bytes(call)
    call()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    return torch.cuda.max_memory_allocated(device) - before
