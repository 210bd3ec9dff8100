"""Turn the convolutions of any network into generated-filter layers, and back."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch.nn.utils.parametrize as parametrize
from torch import nn

from fg_plugin.conv_trace import TRACE_BATCH, ConvCall, trace_convs
from fg_plugin.layers import FilterRepoConv


class ConvRecord(NamedTuple):
    """What a conversion does with one convolution.

    Attributes:
        name: Qualified name of the layer.
        level: Encoder level that drives it, None if it stays static.
        reason: Why it stays static, empty if it is converted.
    """

    name: str
    level: int | None
    reason: str


class NothingMatchedError(ValueError):
    """A pattern names no convolution, or no convolution is left to convert."""


def convert_(
    model: nn.Module,
    *,
    code_dims: Sequence[int],
    level_sizes: Sequence[int],
    input_size: tuple[int, int, int],
    include: Sequence[str] = ('*',),
    exclude: Sequence[str] = (),
    levels: str | Mapping[str, int] = 'depth',
    head: str = 'full',
    rank: int = 8,
    num_base_filters: int | None = None,
    init: str = 'preserve',
) -> list[ConvRecord]:
    """Replace convolutions of ``model`` by ``FilterRepoConv`` in place. All checks come before the first change.

    Args:
        model: The host network.
        code_dims: Length L_f of each level's code.
        level_sizes: Side of each level's feature map in the encoder, for ``levels='resolution'``.
        input_size: ``(C, H, W)`` of one input of ``model``, to trace its shapes.
        include: Patterns (``fnmatch``) of the qualified names of the convolutions to convert. A convolution that a
            pattern without wildcard names must be convertible.
        exclude: Patterns of those to leave out of them.
        levels: Which encoder level drives which convolution: ``'depth'`` (convolution i of n gets level
            floor(i * K / n), so that equal numbers pair one to one, as in the paper), ``'resolution'`` (the level whose
            feature map is nearest in size to the convolution's output), or a mapping of patterns to levels.
        head: Passed to ``FilterRepoConv.from_conv`` with ``rank``, ``num_base_filters`` and ``init``.

    Returns:
        One record per ``nn.Conv2d`` of the model, in the order of ``named_modules``.

    Raises:
        NothingMatchedError: For a pattern that names no convolution (the closest names are given), or if nothing is
            left to convert.
        ValueError: If ``model`` is converted already, for a level that does not exist, or an option that a layer
            refuses (the layer is named).
    """
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    converted = [name for name, conv in convs.items() if isinstance(conv, FilterRepoConv)]
    if converted:
        raise ValueError(f"The model is converted already: '{converted[0]}' is a FilterRepoConv.")
    _check_patterns((*include, *exclude), convs)
    calls = trace_convs(model, input_size)
    reasons = {name: _reason_to_skip(name, conv, calls.get(conv), include, exclude) for name, conv in convs.items()}
    for pattern in include:
        if reasons.get(pattern):
            raise ValueError(f"include names '{pattern}', which cannot be converted: {reasons[pattern]}.")
    chosen = [name for name, reason in reasons.items() if not reason]
    if not chosen:
        raise NothingMatchedError(
            f'include={tuple(include)} and exclude={tuple(exclude)} leave nothing to convert: {_list_reasons(reasons)}.'
        )
    level_of = _assign_levels(chosen, levels, code_dims, level_sizes, {name: calls[convs[name]] for name in chosen})
    layers: dict[nn.Module, nn.Module] = {}
    for name in chosen:
        try:
            layer = FilterRepoConv.from_conv(
                convs[name],
                code_dim=code_dims[level_of[name]],
                level=level_of[name],
                num_base_filters=num_base_filters,
                head=head,
                rank=rank,
                init=init,
            )
        except ValueError as error:
            raise ValueError(f"'{name}' cannot be converted: {error}") from error
        layer.name = name
        layers[convs[name]] = layer
    _replace_(model, layers)
    return [ConvRecord(name, level_of.get(name), reason) for name, reason in reasons.items()]


def _check_patterns(patterns: Sequence[str], convs: Mapping[str, nn.Conv2d]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in convs):
            closest = difflib.get_close_matches(pattern, convs, n=3, cutoff=0.0)
            raise NothingMatchedError(
                f"The pattern '{pattern}' matches none of the {len(convs)} convolutions. Closest names: "
                f'{", ".join(closest) or "none, the model has no nn.Conv2d"}.'
            )


def _reason_to_skip(
    name: str, conv: nn.Conv2d, call: ConvCall | None, include: Sequence[str], exclude: Sequence[str]
) -> str:
    if not any(fnmatchcase(name, pattern) for pattern in include):
        return 'not included'
    if any(fnmatchcase(name, pattern) for pattern in exclude):
        return 'excluded'
    if type(conv) is not nn.Conv2d:
        return f'its class {type(conv).__name__} may change its weight before it convolves'
    if parametrize.is_parametrized(conv) or 'weight' not in conv._parameters:
        return 'its weight is parametrised'
    if call is None:
        return "the model's forward does not call it"
    if call.in_shape[0] % TRACE_BATCH:
        return 'it does not run once per sample'
    return ''


def _list_reasons(reasons: Mapping[str, str]) -> str:
    shown = [f"'{name}': {reason}" for name, reason in list(reasons.items())[:5]]
    return '; '.join(shown) + (f'; and {len(reasons) - 5} more' if len(reasons) > 5 else '')


def _assign_levels(
    names: Sequence[str],
    levels: str | Mapping[str, int],
    code_dims: Sequence[int],
    level_sizes: Sequence[int],
    calls: Mapping[str, ConvCall],
) -> dict[str, int]:
    num_levels = len(code_dims)
    if levels == 'depth':
        return {name: index * num_levels // len(names) for index, name in enumerate(names)}
    if levels == 'resolution':
        # The first of equally near levels is the shallower one.
        return {
            name: min(range(num_levels), key=lambda level: abs(level_sizes[level] - calls[name].out_shape[-1]))
            for name in names
        }
    if isinstance(levels, str):
        raise ValueError(f"levels should be 'depth', 'resolution' or a mapping of patterns, but got {levels!r}.")
    assigned: dict[str, int] = {}
    for pattern, level in levels.items():
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            closest = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
            raise NothingMatchedError(
                f"The pattern '{pattern}' of levels matches no converted convolution. Closest names: "
                f'{", ".join(closest)}.'
            )
        if not 0 <= level < num_levels:
            raise ValueError(f"levels['{pattern}'] should be in [0, {num_levels}), but got {level}.")
        assigned.update(dict.fromkeys(matched, level))
    missing = [name for name in names if name not in assigned]
    if missing:
        raise ValueError(f"levels should cover every converted convolution, but does not cover '{missing[0]}'.")
    return assigned


def revert_(model: nn.Module) -> None:
    """Put ordinary convolutions back in place of the generated-filter layers, all or none.

    A layer converted with ``init='preserve'`` and M = N gives back a convolution whose weight is its repository: the
    original one, bit for bit, unless training moved it.

    Raises:
        ValueError: If nothing is converted, or a layer cannot give its original weight back.
    """
    layers = {module: name for name, module in model.named_modules() if isinstance(module, FilterRepoConv)}
    if not layers:
        raise ValueError('The model has no generated-filter layer to revert.')
    for layer, name in layers.items():
        if not layer.preserves_conv:
            raise ValueError(
                f"'{name}' cannot be reverted: its repository of {layer.num_base_filters} base filters is not the "
                f"weight of the convolution it replaced. Only init='preserve' with num_base_filters=None keeps it."
            )
    _replace_(model, {layer: layer.to_conv() for layer in layers})


def _replace_(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replace modules wherever they appear (a shared module stays shared), with their forward and backward hooks."""
    for old, new in replacements.items():
        for attribute in ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks'):
            getattr(new, attribute).update(getattr(old, attribute))
    for parent in list(model.modules()):
        # Not named_children(): it lists a module that has two names only once.
        for child_name, child in parent._modules.items():
            if child is not None and child in replacements:
                parent._modules[child_name] = replacements[child]
