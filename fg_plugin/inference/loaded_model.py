"""A trained network, what it takes and what it gives."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from fg_plugin.generator import FilterGenerator
from fg_plugin.inference.tasks import Task, answers, output_tensors


@dataclass
class LoadedModel:
    """A trained network in evaluation mode.

    Attributes:
        source: The config's path or the timm name.
        options: What it was built with besides: keyword arguments of timm, or settings that override the config's.
        model: The module that checkpoints belong to.
        network: What runs on ``inputs``. It returns logits ``(B, num_classes)`` or, by pixel, ``(B, num_classes, H,
            W)``; heatmaps ``(B, K, H, W)`` and landmarks ``(B, K, 2)`` in pixels; or any other tensors, features. The
            network of a config takes pixels in [0, 1] and normalises them itself; the one of a timm name is the model,
            which takes normalised images.
        task: What it predicts.
        output_names: Of the tensors that ``network`` returns.
        input_size: ``(C, H, W)`` of an input.
        transform: From an image, as ``read_image`` returns it, to an input ``(C, H, W)``. It also takes a tensor
            ``(C, h, w)`` of pixels in [0, 1], for images of other channels than grey and RGB.
        normalise: From inputs to what the part that generates filters takes.
        hosts: The parts that generate filters.
        classes: Their names, if known.
    """

    source: str
    options: dict[str, Any]
    model: nn.Module
    network: nn.Module
    task: Task
    output_names: tuple[str, ...]
    input_size: tuple[int, int, int]
    transform: Callable[[Image.Image | Tensor], Tensor]
    normalise: Callable[[Tensor], Tensor]
    hosts: Sequence[nn.Module] = ()
    classes: Sequence[str] | None = field(default=None)

    @property
    def host(self) -> Any:
        """The part that generates filters: a converted network, or an ``FGBackboneWrapper``.

        Raises:
            ValueError: If there is none, or more than one.
        """
        if len(self.hosts) != 1:
            raise ValueError(
                f'The model should have one part that generates filters (FGBackboneWrapper, or a network converted by '
                f'convert_ or created as fg_<name>), but {self.source} has {len(self.hosts) or "none"}.'
            )
        return self.hosts[0]

    @property
    def generator(self) -> FilterGenerator:
        """The host's generator."""
        return generator_of(self.host)

    @property
    def device(self) -> torch.device:
        """The device of its parameters."""
        return next(self.model.parameters()).device

    def outputs(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the network on ``inputs`` (B, C, H, W); return what ``output_names`` says."""
        return output_tensors(self.network(inputs))

    def answers(self, inputs: Tensor) -> Tensor:
        """Run the network on ``inputs`` (B, C, H, W); return what is compared of its outputs, see ``tasks.answers``."""
        return answers(self.task, self.outputs(inputs))

    def conditioned_on(self, inputs: Tensor) -> AbstractContextManager[None]:
        """Take the filters from ``inputs`` (B, C, H, W) instead of those that the network is called with."""
        return self.host.conditioned_on(self.normalise(inputs))


def generator_of(host: Any) -> FilterGenerator:
    """Return the generator of a converted network or of an ``FGBackboneWrapper``."""
    return host.fg_generator if hasattr(host, 'fg_generator') else host.generator
