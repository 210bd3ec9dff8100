"""One recipe for all networks of a study."""

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fg_plugin.generated_model import GeneratedModel
from fg_plugin.generator import pending_reconstruction_loss
from fg_plugin.layers import FilterRepoConv
from fg_plugin.studies.arms import Arm, static
from fg_plugin.studies.data import Images, StudyData
from fg_plugin.swapping import other_images

# Images of the variance over samples.
_VARIATION_IMAGES = 200


class Recipe(NamedTuple):
    """AdamW with a one-cycle learning rate.

    Attributes:
        epochs: Epochs.
        lr: Largest learning rate.
        batch_size: Images of a step.
        weight_decay: Of weights, not of biases and normalisations.
    """

    epochs: int = 10
    lr: float = 3e-3
    batch_size: int = 128
    weight_decay: float = 0.05


def warm_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of a fine-tuning after ``recipe``: half as long, with a third of the learning rate."""
    return recipe._replace(epochs=max(1, recipe.epochs // 2), lr=recipe.lr / 3)


def train_arm(
    arm: Arm, data: StudyData, recipe: Recipe, seed: int, start: dict[str, Tensor] | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Train one network; return it with its curve and its accuracies in percent, of a warm start also that before.

    Args:
        arm: What to build.
        data: The images.
        recipe: Of the training, and for a warm start of the training before it.
        seed: Of the weights, and of the order of the images and their augmentation.
        start: Weights of the trained static network, which a warm start needs.

    Raises:
        ValueError: If a warm start has no weights to start from.
        FloatingPointError: If the loss is not finite.
    """
    torch.manual_seed(seed)
    net = static(data)
    before: dict[str, float] = {}
    if arm.warm:
        if start is None:
            raise ValueError(f'A warm start ({arm.what}) needs the weights of a trained static network, but got none.')
        net.load_state_dict(start)
        before = {'before': accuracy(net, data, data.test)}
        net.train()
        recipe = warm_recipe(recipe)
    model = arm.build(data, net)
    batches = math.ceil(len(data.train.labels) / recipe.batch_size)
    optimizer = torch.optim.AdamW(_groups(model, arm, recipe))
    schedule = _Schedule(optimizer, recipe.epochs * batches)
    draws = torch.Generator().manual_seed(seed)
    curve = []
    for epoch in range(recipe.epochs):
        began = time.process_time()
        loss = _train_epoch(model, data, recipe, optimizer, schedule, draws)
        seconds = time.process_time() - began
        curve.append({'epoch': epoch + 1, 'loss': loss, 'test': accuracy(model, data, data.test), 'seconds': seconds})
    result = {'recipe': recipe._asdict(), 'curve': curve, **before, 'test': curve[-1]['test']}
    result['train'] = accuracy(model, data, data.train)
    if data.unseen is not None:
        result['unseen'] = accuracy(model, data, data.unseen)
        if data.unseen_kinds:
            parts = {kind: data.unseen.take(positions) for kind, positions in data.unseen_kinds.items()}
            result['unseen_by_kind'] = {kind: accuracy(model, data, part) for kind, part in parts.items()}
    if isinstance(model, GeneratedModel):
        result['swapped'] = accuracy(model, data, data.test, other_images(len(data.test.labels), seed))
        result['variance'] = _coefficient_variance(model, data)
    return model, result


class _Schedule:
    """One cycle of the learning rate; that of a group with a ``warm_up`` also rises linearly over this part of it."""

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        rates = [group['lr'] for group in optimizer.param_groups]
        self.groups = optimizer.param_groups
        self.steps = steps
        self.done = 0
        self.cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, steps, pct_start=0.2)
        self._warm_up()

    def step(self) -> None:
        # Sets every rate anew from that of the start.
        self.cycle.step()
        self.done += 1
        self._warm_up()

    def _warm_up(self) -> None:
        for group in self.groups:
            if group['warm_up']:
                group['lr'] *= min(1.0, self.done / (group['warm_up'] * self.steps))


def _train_epoch(
    model: nn.Module, data: StudyData, recipe: Recipe, optimizer: Any, schedule: _Schedule, draws: torch.Generator
) -> float:
    model.train()
    total = 0.0
    order = torch.randperm(len(data.train.labels), generator=draws)
    for index in order.split(recipe.batch_size):
        pixels = data.train.pixels[index]
        if data.augment is not None:
            pixels = data.augment(pixels, draws)
        loss = F.cross_entropy(model(normalise(data, pixels)), data.train.labels[index])
        total += loss.item() * len(index)
        reconstruction = pending_reconstruction_loss(model)
        if reconstruction is not None:
            loss = loss + reconstruction
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f'The loss should be finite, but got {loss.item()}: try a smaller learning rate.')
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return total / len(order)


def _groups(model: nn.Module, arm: Arm, recipe: Recipe) -> list[dict[str, Any]]:
    """Split the parameters by their learning rate, its warm-up, and decay."""
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        in_generator = name.startswith(('fg_generator.', 'code.')) or '.code.' in name
        in_head = 'coefficient_head' in name
        lr = recipe.lr * (arm.generator_lr if in_generator else arm.head_lr if in_head else arm.network_lr)
        decays = parameter.ndim > 1 and (arm.head_decay or not (in_generator or in_head))
        warm_up = arm.warm_up if in_generator or in_head else 0.0
        groups.setdefault((lr, recipe.weight_decay if decays else 0.0, warm_up), []).append(parameter)
    return [
        {'params': params, 'lr': lr, 'weight_decay': decay, 'warm_up': warm_up}
        for (lr, decay, warm_up), params in groups.items()
    ]


def normalise(data: StudyData, pixels: Tensor) -> Tensor:
    """Return what a network takes for images ``(B, C, H, W)`` in [0, 1]."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    return (pixels - mean) / std


@torch.no_grad()
def accuracy(model: nn.Module, data: StudyData, images: Images, others: Tensor | None = None) -> float:
    """Return the accuracy in percent, with the filters of the images at the positions ``others`` if they are given."""
    model.eval()
    right = 0
    for index in _batches(len(images.labels)):
        inputs = normalise(data, images.pixels[index])
        if others is None:
            logits = model(inputs)
        else:
            with model.conditioned_on(normalise(data, images.pixels[others[index]])):  # type: ignore[operator]
                logits = model(inputs)
        right += int((logits.argmax(1) == images.labels[index]).sum())
    return 100 * right / len(images.labels)


@torch.no_grad()
def _coefficient_variance(model: GeneratedModel, data: StudyData) -> dict[str, float]:
    """Return the variance of each layer's coefficients over samples, relative to their mean square."""
    codes = model.fg_generator(normalise(data, data.test.pixels[:_VARIATION_IMAGES]))
    variance = {}
    for name, layer in model.named_modules():
        if isinstance(layer, FilterRepoConv):
            # Not fg_plugin.analysis: it needs heads that are affine.
            coefficients = layer.coefficient_head(codes[layer.level]).dense().double()
            variance[name] = (coefficients.var(0, correction=0).sum() / coefficients.square().mean(0).sum()).item()
    return variance


def _batches(count: int, size: int = 500) -> Iterator[Tensor]:
    yield from torch.arange(count).split(size)
