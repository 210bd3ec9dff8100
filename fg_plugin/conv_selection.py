"""Which convolutions of a network are converted, and which encoder level drives which of them."""

import difflib
from collections.abc import Mapping, Sequence, Set
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple

import torch.nn.utils.parametrize as parametrize
from torch import nn

from fg_plugin.batch_order import disordered_convs
from fg_plugin.conv_trace import TRACE_BATCH, ConvCall, trace_convs
from fg_plugin.layers import FilterRepoConv, layer_class

_STATE_DICT_HOOKS = (
    '_state_dict_hooks',
    '_state_dict_pre_hooks',
    '_load_state_dict_pre_hooks',
    '_load_state_dict_post_hooks',
)


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


class Selection(NamedTuple):
    """The convolutions of a network, in the order of ``named_modules``.

    Attributes:
        records: One record per ``nn.Conv2d``.
        convs: The convolutions by name.
        calls: What each convolution saw in the trace; those that did not run are absent.
        folded: Names of the convolutions whose batch held several rows per sample.
    """

    records: list[ConvRecord]
    convs: dict[str, nn.Conv2d]
    calls: dict[nn.Module, ConvCall]
    folded: Set[str]

    @property
    def levels(self) -> dict[str, int]:
        """Encoder levels of the convolutions to convert, by name."""
        return {record.name: record.level for record in self.records if record.level is not None}


class NothingMatchedError(ValueError):
    """A pattern names no convolution, or no convolution is left to convert."""


def select_convs(
    model: nn.Module,
    *,
    level_sizes: Sequence[int],
    input_size: tuple[int, int, int],
    include: Sequence[str] = ('*',),
    exclude: Sequence[str] = (),
    levels: str | Mapping[str, int] = 'depth',
    static: Mapping[str, str] | None = None,
) -> Selection:
    """Choose the convolutions of ``model`` to convert. Nothing is changed.

    Those stay static that do not run once per sample, or whose batch holds several rows per sample (windows, views) in
    another order than sample by sample.

    Args:
        model: The host network.
        level_sizes: Side of each encoder level's feature map.
        input_size: ``(C, H, W)`` of one input of ``model``, to trace its shapes.
        include: Patterns (``fnmatch``) of the qualified names of the convolutions to convert. A convolution that a
            pattern without wildcard names must be convertible.
        exclude: Patterns of those to leave out of them.
        levels: Which of the K encoder levels drives which of the n convolutions: ``'depth'`` (in order, evenly: equal
            numbers pair one to one, as in the paper; fewer convolutions get the deeper levels), ``'resolution'`` (the
            level whose feature map is nearest in size to the convolution's output), or a mapping of patterns to levels.
        static: Names of modules whose convolutions stay static, with the reason.

    Raises:
        NothingMatchedError: For a pattern that names no convolution (the closest names are given), one of ``include``
            that names only what cannot be converted, or if nothing is left to convert.
        ValueError: If ``model`` is converted already, for a level that does not exist, or an input size that the model
            refuses.
    """
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    converted = [name for name, conv in convs.items() if isinstance(conv, FilterRepoConv)]
    if converted:
        raise ValueError(f"The model is converted already: '{converted[0]}' is a FilterRepoConv.")
    if not convs:
        raise NothingMatchedError(f'{type(model).__name__} has no nn.Conv2d, and so no filters to generate.')
    _check_patterns((*include, *exclude), convs)
    calls = trace_convs(model, input_size)
    reasons = {
        name: _reason_to_skip(name, conv, calls.get(conv), include, exclude, static or {})
        for name, conv in convs.items()
    }
    folded = {
        name: conv for name, conv in convs.items() if not reasons[name] and _batch_sizes(calls[conv]) != {TRACE_BATCH}
    }
    if folded:
        disordered = disordered_convs(model, input_size, {conv: calls[conv] for conv in folded.values()})
        reasons |= {name: disordered.get(conv, '') for name, conv in folded.items()}
    for pattern in include:
        if reasons.get(pattern):
            raise ValueError(f"include names '{pattern}', which cannot be converted: {reasons[pattern]}.")
    chosen = [name for name, reason in reasons.items() if not reason]
    if not chosen:
        raise NothingMatchedError(
            f'include={tuple(include)} and exclude={tuple(exclude)} leave nothing to convert: {_list_reasons(reasons)}.'
        )
    for pattern in include:
        matched = {name: reason for name, reason in reasons.items() if fnmatchcase(name, pattern)}
        if all(matched.values()) and 'excluded' not in matched.values():
            raise NothingMatchedError(
                f"The pattern '{pattern}' of include matches only what cannot be converted: {_list_reasons(matched)}."
            )
    level_of = _assign_levels(chosen, levels, level_sizes, {name: calls[convs[name]] for name in chosen})
    records = [ConvRecord(name, level_of.get(name), reason) for name, reason in reasons.items()]
    return Selection(records, convs, calls, folded.keys())


def _check_patterns(patterns: Sequence[str], convs: Mapping[str, nn.Conv2d]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in convs):
            closest = difflib.get_close_matches(pattern, convs, n=3, cutoff=0.0)
            raise NothingMatchedError(
                f"The pattern '{pattern}' matches none of the {len(convs)} convolutions. Closest names: "
                f'{", ".join(closest) or "none, the model has no nn.Conv2d"}.'
            )


def _reason_to_skip(
    name: str,
    conv: nn.Conv2d,
    call: ConvCall | None,
    include: Sequence[str],
    exclude: Sequence[str],
    static: Mapping[str, str],
) -> str:
    for module, reason in static.items():
        if name == module or name.startswith(f'{module}.'):
            return reason
    if not any(fnmatchcase(name, pattern) for pattern in include):
        return 'not included'
    if any(fnmatchcase(name, pattern) for pattern in exclude):
        return 'excluded'
    if parametrize.is_parametrized(conv) or 'weight' not in conv._parameters:
        return 'its weight is parametrised'
    if layer_class(conv) is None:
        return f'its class {type(conv).__name__} may change its weight before it convolves'
    own = _reason_of_the_instance(conv)
    if own:
        return own
    if call is None:
        return "the model's forward does not call it"
    if any(len(shape) != 4 for shape in call.in_shapes):
        return 'it is called with one sample (C, H, W) without a batch'
    if any(size % TRACE_BATCH for size in _batch_sizes(call)):
        return 'it does not run once per sample'
    return ''


def _reason_of_the_instance(conv: nn.Conv2d) -> str:
    """Return what was added to ``conv`` that a layer in its place cannot have, empty for nothing."""
    methods = vars(conv).keys() & {'forward', '_conv_forward'}
    if methods:
        return f"its '{min(methods)}' was assigned to the instance"
    if conv._buffers or conv._modules:
        return f"it holds '{next(iter({**conv._buffers, **conv._modules}))}' besides its weight and bias"
    if any(getattr(conv, hooks) for hooks in _STATE_DICT_HOOKS):
        return 'it has hooks of its state dict'
    names = vars(conv).keys() & _attributes_of_layers()
    return f"its attribute '{min(names)}' means something else in a generated-filter layer" if names else ''


@cache
def _attributes_of_layers() -> Set[str]:
    """Return the names of what a generated-filter layer has and an ordinary convolution has not."""
    layer = FilterRepoConv(1, 1, 1, code_dim=1, device='meta')
    return set(dir(layer)) - set(dir(nn.Conv2d(1, 1, 1, device='meta')))


def _batch_sizes(call: ConvCall) -> set[int]:
    return {shape[0] for shape in call.in_shapes}


def _list_reasons(reasons: Mapping[str, str]) -> str:
    # What was asked for first.
    ordered = sorted(reasons.items(), key=lambda item: item[1] == 'not included')
    shown = [f"'{name}': {reason}" for name, reason in ordered[:5]]
    return '; '.join(shown) + (f'; and {len(reasons) - 5} more' if len(reasons) > 5 else '')


def _assign_levels(
    names: Sequence[str],
    levels: str | Mapping[str, int],
    level_sizes: Sequence[int],
    calls: Mapping[str, ConvCall],
) -> dict[str, int]:
    num_levels = len(level_sizes)
    if levels == 'depth' and len(names) < num_levels:
        return {name: (index + 1) * num_levels // len(names) - 1 for index, name in enumerate(names)}
    if levels == 'depth':
        return {name: index * num_levels // len(names) for index, name in enumerate(names)}
    if levels == 'resolution':
        # The first of equally near levels is the shallower one.
        return {
            name: min(range(num_levels), key=lambda level: abs(level_sizes[level] - calls[name].out_shape[-1]))
            for name in names
        }
    if not isinstance(levels, Mapping):
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
        if not isinstance(level, int) or not 0 <= level < num_levels:
            raise ValueError(f"levels['{pattern}'] should be in [0, {num_levels}), but got {level!r}.")
        assigned.update(dict.fromkeys(matched, level))
    missing = [name for name in names if name not in assigned]
    if missing:
        raise ValueError(f"levels should cover every converted convolution, but does not cover '{missing[0]}'.")
    return assigned
