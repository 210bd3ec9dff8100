"""Checks the numbers that an architecture computes with generated filters."""

import gc
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fg_plugin.convert import convert_, freeze_, host_input, revert_
from fg_plugin.layers import FilterRepoConv
from fg_plugin.sweep.architectures import build_on_meta
from fg_plugin.sweep.light_meta import LightMeta
from fg_plugin.sweep.shapes import describe_conversion

# Largest errors, relative to the largest absolute value of the output.
MAX_ERROR_FLOAT32 = 1e-5
MAX_ERROR_FLOAT64 = 1e-12
# Other summation orders at each layer, of a network that may amplify them.
MAX_ERROR_OTHER_PATH = 1e-9
MIN_CHANGE = 1e-6

BATCH = 3
SIZES = (96, 128, 160, 192, 224)
SEED = 0


class Setup(NamedTuple):
    """How to build an architecture for a fast check.

    Attributes:
        input_size: ``(C, H, W)``.
        options: Arguments of ``timm.create_model``.
    """

    input_size: tuple[int, int, int]
    options: dict[str, Any]


@torch.no_grad()
def check_values(name: str, facts: dict[str, Any]) -> Iterator[str]:
    """Yield what does not hold for the numbers of architecture ``name``.

    ``facts`` is filled with the convolutions as in ``check_shapes`` and the relative errors: ``float32`` and
    ``float64`` of the converted network to its host; with perturbed coefficient heads ``alone`` (a sample without its
    batch) and ``frozen`` (the frozen network to one with given filters), and how far the output moved (``moved``) and
    how far it moves with the filters of another sample (``swapped``).
    """
    setup = fast_setup(name)
    torch.manual_seed(SEED)
    model = timm.create_model(name, **setup.options).eval()
    randomise_constants_(model)
    facts.update(model_class=type(model).__qualname__, input_size=list(setup.input_size), options=setup.options)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = make_images(setup.input_size)
    host64 = _output(model.double(), images)
    host32 = _output(model.float(), images.float())
    if not host64.isfinite().all() or not host64.any():
        yield 'the host itself computes no numbers to compare with: zeros, infinities or NaN'
        return

    facts.update(describe_conversion(convert_(model, input_size=setup.input_size)))
    facts['float32'] = relative_error(_output(model, images.float()), host32)
    model.double()
    facts['float64'] = relative_error(_output(model, images), host64)
    yield from _too_large(facts, float32=MAX_ERROR_FLOAT32, float64=MAX_ERROR_FLOAT64)

    perturb_heads_(model)
    yield from _check_samples(model, images, host64, facts)

    revert_(model.float())
    yield from _check_reverted(model, state, images, host32)
    del state

    convert_(model.double(), input_size=setup.input_size)
    perturb_heads_(model)
    yield from _check_gradients(model, images, facts)
    one = images[:1]
    model.eval()
    with model.conditioned_on(one):  # type: ignore[operator]
        expected = _output(model, images)
    freeze_(model, one)
    facts['frozen'] = relative_error(_output(model, images), expected)
    yield from _too_large(facts, frozen=MAX_ERROR_OTHER_PATH)
    del model
    gc.collect()


def _check_samples(model: Any, images: Tensor, host: Tensor, facts: dict[str, Any]) -> Iterable[str]:
    out = _output(model, images)
    facts['moved'] = relative_error(out, host)
    with model.conditioned_on(images.roll(1, 0)):
        facts['swapped'] = relative_error(_output(model, images), out)
    alone = torch.cat([_output(model, image[None]) for image in images])
    facts['alone'] = relative_error(alone, out)
    for change in ('moved', 'swapped'):
        if not facts[change] > MIN_CHANGE:
            yield f'{change}: the output should move with other filters, but changes by {facts[change]:.1e} only'
    yield from _too_large(facts, alone=MAX_ERROR_OTHER_PATH)


def _check_reverted(model: nn.Module, state: dict[str, Tensor], images: Tensor, host: Tensor) -> Iterable[str]:
    found = model.state_dict()
    if found.keys() != state.keys():
        yield f'revert_ leaves other keys: {sorted(found.keys() ^ state.keys())[:5]}'
        return
    changed = [key for key in state if not _same_bits(found[key], state[key])]
    if changed:
        yield f'revert_ leaves other values in {len(changed)} tensors: {changed[:5]}'
    if not torch.equal(_output(model, images.float()), host):
        yield 'after revert_ the output is not that of the host bit for bit'


def _same_bits(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


@torch.enable_grad()
def _check_gradients(model: Any, images: Tensor, facts: dict[str, Any]) -> list[str]:
    """Return the parameters of the generator and of the layers that training would not move."""
    model.train()
    parameters = {f'fg_generator.{name}': value for name, value in model.fg_generator.named_parameters()}
    for layer in model.modules():
        if isinstance(layer, FilterRepoConv):
            parameters |= {f'{layer.name}.{name}': value for name, value in layer.named_parameters()}
    # The host's other parameters need no memory for gradients.
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    torch.manual_seed(SEED)
    leaves = [leaf for leaf in tree_leaves(model(images)) if isinstance(leaf, Tensor)]
    # Fixed random weights: the sum of normalised outputs would not depend on the filters.
    loss = torch.stack([(leaf * torch.randn_like(leaf)).mean() for leaf in leaves]).sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    facts['gradients'] = len(parameters)
    bad = [
        name
        for name, gradient in zip(parameters, gradients, strict=True)
        if gradient is None or not gradient.isfinite().all() or not gradient.any()
    ]
    return [f'{len(bad)} parameters get no gradient, zero or NaN: {bad[:5]}'] if bad else []


def fast_setup(name: str) -> Setup:
    """Return the smallest input that ``name`` takes without converting fewer convolutions, found on the meta device."""
    model = build_on_meta(name)
    own = host_input(model).size
    fixed = getattr(model, 'pretrained_cfg', {}).get('fixed_input_size')
    del model
    converted = _try_setup(name, Setup(own, {}))
    if isinstance(converted, Exception):
        raise converted
    for size in SIZES:
        setup = Setup((own[0], size, size), {'img_size': size} if fixed else {})
        if size < min(own[1:]) and _try_setup(name, setup) == converted:
            return setup
    return Setup(own, {})


def _try_setup(name: str, setup: Setup) -> list[str] | Exception:
    """Return the names of the convolutions that are converted, or why ``setup`` does not suit the architecture."""
    try:
        model = build_on_meta(name, **setup.options)
        with LightMeta():
            records = convert_(model, input_size=setup.input_size)
            model(torch.empty(BATCH, *setup.input_size, device='meta'))
    except Exception as error:
        return error
    return [record.name for record in records if record.level is not None]


def make_images(input_size: tuple[int, int, int]) -> Tensor:
    """Return images of blobs, whose thumbnails differ, for which noise would be the same grey."""
    generator = torch.Generator().manual_seed(SEED)
    blobs = torch.randn(BATCH, input_size[0], 7, 7, generator=generator, dtype=torch.float64)
    return nn.functional.interpolate(blobs, input_size[1:], mode='bicubic')


@torch.no_grad()
def randomise_constants_(model: nn.Module) -> None:
    """Replace parameters that are initialised with zeros or tiny constants by noise.

    They hide the convolutions before them from the output, so that no error there would be seen.
    """
    for parameter in model.parameters():
        if parameter.numel() and parameter.min() == parameter.max() and parameter.flatten()[0].abs() < 0.2:
            parameter.normal_(std=0.1 if parameter.ndim < 2 or parameter.shape[0] == 1 else 0.02)


@torch.no_grad()
def perturb_heads_(model: nn.Module) -> None:
    """Add noise to the coefficient heads, so that filters differ from sample to sample."""
    generator = torch.Generator().manual_seed(SEED)
    for layer in model.modules():
        if isinstance(layer, FilterRepoConv):
            for parameter in layer.coefficient_head.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.add_(0.3 * noise * parameter[0].numel() ** -0.5)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference, relative to the largest absolute value of ``expected``."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _output(model: nn.Module, images: Tensor) -> Tensor:
    """Return everything that ``model`` gives for ``images`` (B, C, H, W), as one ``(B, n)``."""
    leaves = [leaf for leaf in tree_leaves(model(images)) if isinstance(leaf, Tensor)]
    return torch.cat([leaf.reshape(len(images), -1) for leaf in leaves], 1)


def _too_large(facts: dict[str, Any], **limits: float) -> Iterable[str]:
    for name, limit in limits.items():
        # Not >=: a NaN is too large.
        if not facts[name] < limit:
            yield f'{name}: the relative error should be below {limit:g}, but is {facts[name]:.1e}'
