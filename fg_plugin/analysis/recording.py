"""One pass over the samples: codes, feature maps and outputs."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fg_plugin.analysis.layer_choice import layers_of
from fg_plugin.inference import LoadedModel
from fg_plugin.inference.loaded_model import generator_of

# Of each sample's feature maps. Larger ones are averaged over neighbouring pixels, so that 500 samples fit in memory.
MAX_MAP_VALUES = 8192


class Recording(NamedTuple):
    """What the model does with the samples.

    Attributes:
        codes: One ``(N, L_f)`` per level of the encoder.
        maps: Feature maps ``(N, F)`` by layer.
        answers: Of the network, see ``tasks.answers``.
    """

    codes: list[Tensor]
    maps: dict[str, Tensor]
    answers: Tensor


@torch.no_grad()
def record(loaded: LoadedModel, inputs: Tensor, layers: Sequence[str], batch_size: int = 50) -> Recording:
    """Run the model on ``inputs`` (N, C, H, W) and keep the feature maps of ``layers``."""
    modules = layers_of(loaded)
    maps: dict[str, list[Tensor]] = defaultdict(list)
    codes, answers = [], []
    current: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            # A layer that runs several times in a forward is represented by its first run.
            current.setdefault(name, out.detach())

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in layers]
    try:
        for batch in inputs.split(batch_size):
            codes.append(generator_of(loaded.host)(loaded.normalise(batch)))
            current.clear()
            answers.append(loaded.answers(batch).cpu())
            for name, out in current.items():
                maps[name].append(_per_sample(out, len(batch)))
    finally:
        for handle in handles:
            handle.remove()
    return Recording(
        [torch.cat(level).cpu() for level in zip(*codes, strict=True)],
        {name: torch.cat(parts) for name, parts in maps.items()},
        torch.cat(answers),
    )


def _per_sample(out: Tensor, batch: int) -> Tensor:
    """Return feature maps as ``(B, F)``, also where windows or patches are folded into their batch."""
    out = out.float()
    folds = max(1, len(out) // batch)
    pixels = max(1, MAX_MAP_VALUES // (folds * out.shape[1]))
    height, width = out.shape[2:]
    if height * width > pixels:
        side = max(1, int(pixels**0.5))
        out = F.adaptive_avg_pool2d(out, (min(side, height), min(side, width)))
    return out.reshape(batch, -1).cpu()


@torch.no_grad()
def record_swapped(loaded: LoadedModel, inputs: Tensor, others: Tensor, batch_size: int = 50) -> Tensor:
    """Return the answers for ``inputs`` with the filters of the inputs at the positions ``others`` (N,)."""
    answers = []
    for batch, other in zip(inputs.split(batch_size), others.split(batch_size), strict=True):
        with loaded.conditioned_on(inputs[other.to(inputs.device)]):
            answers.append(loaded.answers(batch).cpu())
    return torch.cat(answers)
