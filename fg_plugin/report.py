"""What a conversion does, or would do, to each convolution of a network, and what it costs."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from fg_plugin.conv_selection import ConvRecord
from fg_plugin.convert import convert_, freeze_
from fg_plugin.generated_model import GENERATOR, GeneratedModel
from fg_plugin.layers import FilterRepoConv
from fg_plugin.macs import count_macs, meta_copy
from fg_plugin.sharding import check_whole


class Cost(NamedTuple):
    """What a module or network costs.

    Attributes:
        parameters: Number of its parameters.
        macs: Multiply-accumulate operations of its convolutions and matrix products, for one image at inference.
    """

    parameters: int
    macs: int


class ConvRow(NamedTuple):
    """One convolution.

    Attributes:
        name: Qualified name.
        kind: Such as ``'3x3 /2'`` (stride 2), ``'depthwise 5x5'``, ``'grouped(32) 3x3'``, with the class if it is not
            ``nn.Conv2d`` itself.
        reason: Why it stays static, empty if it is converted.
        level: Encoder level that drives it, None if it stays static.
        num_filters: Number N of filters.
        num_base_filters: Number M of base filters, None if it stays static.
        kept_energy: Part of the filters' squared norm that M < N base filters kept at the conversion; None if they
            approximate nothing (M >= N, ``init='orthogonal'``, or a converted network's checkpoint was loaded).
        before: Cost of the ordinary convolution.
        after: Cost of what takes its place, coefficient head included.
    """

    name: str
    kind: str
    reason: str
    level: int | None
    num_filters: int
    num_base_filters: int | None
    kept_energy: float | None
    before: Cost
    after: Cost


@dataclasses.dataclass(frozen=True)
class Report:
    """A conversion, convolution by convolution. ``str(report)`` is a Markdown table.

    Attributes:
        network: Name of the network's class before the conversion.
        input_size: ``(C, H, W)`` of the image whose MACs are given.
        rows: One row per ``nn.Conv2d``, in the order of ``named_modules``.
        generator: Cost of the autoencoder and the neck. Its decoder has parameters, but does not run at inference.
        before: Cost of the whole network before the conversion.
        after: Cost of the whole network after it.
    """

    network: str
    input_size: tuple[int, int, int]
    rows: tuple[ConvRow, ...]
    generator: Cost
    before: Cost
    after: Cost

    def to_dict(self) -> dict[str, Any]:
        """Return the report as dicts, lists, strings and numbers, ready for ``json.dumps``."""
        costs = {name: getattr(self, name)._asdict() for name in ('generator', 'before', 'after')}
        rows = [{**row._asdict(), 'before': row.before._asdict(), 'after': row.after._asdict()} for row in self.rows]
        return {'network': self.network, 'input_size': list(self.input_size), 'rows': rows, **costs}

    def __str__(self) -> str:
        """Return the report as a Markdown table, padded for a terminal, and a line of totals."""
        converted = sum(not row.reason for row in self.rows)
        header = ['convolution', 'kind', 'filters', 'M/N', 'kept', 'parameters', 'then', 'MACs (M)', 'then']
        rows = [_cells(row) for row in self.rows]
        rows.append(['generator', '', '', '', '', *_cost_cells(Cost(0, 0), self.generator)])
        rows.append(['whole network', '', '', '', '', *_cost_cells(self.before, self.after)])
        parameters, macs = (after / before - 1 for before, after in zip(self.before, self.after, strict=True))
        return (
            f'{self.network}: {converted} of {len(self.rows)} convolutions have generated filters. Parameters '
            f'{parameters:+.2%}, MACs {macs:+.2%} (one image of {"x".join(map(str, self.input_size))}, inference).\n\n'
            f'{_table(header, rows)}'
        )


def report(model: nn.Module, **options: Any) -> Report:
    """Tell what ``convert_`` does to each convolution of ``model``, and what it costs.

    Neither the model nor the random state of the CPU changes. For a network that is not converted, this is a dry run:
    it takes the options of ``convert_`` and raises what it raises. A converted network is compared with its host; then
    there are no options.

    Args:
        model: A network, or one that ``convert_`` or ``timm.create_model('fg_...')`` converted.
        options: As in ``convert_``.

    Raises:
        NothingMatchedError: As ``convert_``.
        ValueError: As ``convert_``; for options of a network that is converted already, or if ``model`` only holds
            such a network (its name is given).
    """
    check_whole(model)
    if isinstance(model, GeneratedModel):
        if options:
            raise ValueError(
                f'report should be given no options for a converted network, but got {", ".join(options)}. revert_ it '
                f'first to try other options.'
            )
        return _with_or_without_values(lambda copied: _compare(_frozen(copied(model)), model), model)
    for name, module in model.named_modules():
        if isinstance(module, GeneratedModel):
            raise ValueError(
                f'report should be given the converted network itself, but got a {type(model).__name__} that holds it '
                f"as '{name}'."
            )
    if options.get('num_base_filters') is not None:
        # The energy that M < N base filters keep depends on values.
        return _compare(model, _converted(copy.deepcopy(model), options))
    return _with_or_without_values(lambda copied: _compare(model, _converted(copied(model), options)), model)


def _with_or_without_values(make: Callable[[Callable[[nn.Module], Any]], Report], model: nn.Module) -> Report:
    """Make a report with copies without values, or, of a network whose forward decides by them, with values."""
    try:
        return make(meta_copy)
    except ValueError:
        if next(model.parameters()).is_meta:
            raise
        return make(copy.deepcopy)


def _frozen(model: Any) -> nn.Module:
    parameter = next(model.parameters())
    freeze_(model, parameter.new_zeros(1, *model.fg_conversion.input_size))
    return model


def _converted(model: nn.Module, options: dict[str, Any]) -> nn.Module:
    # A new generator draws its initial values.
    with torch.random.fork_rng(devices=[]):
        convert_(model, **options)
    return model


def _compare(host: nn.Module, converted: Any) -> Report:
    records, input_size = converted.fg_conversion
    convs = {name: module for name, module in host.named_modules() if isinstance(module, nn.Conv2d)}
    macs_before = count_macs(host, input_size, list(convs))
    macs_after = count_macs(converted, input_size, [*convs, GENERATOR])
    record_of = {record.name: record for record in records}
    rows = []
    for name, conv in convs.items():
        record = record_of.get(name, ConvRecord(name, None, 'it was added after the conversion'))
        layer = converted.get_submodule(name)
        generated = isinstance(layer, FilterRepoConv)
        if not generated and not record.reason:
            record = ConvRecord(name, None, 'it was replaced after the conversion')
        rows.append(
            ConvRow(
                name,
                _kind(conv),
                record.reason,
                record.level,
                conv.out_channels,
                layer.num_base_filters if generated else None,
                layer.kept_energy if generated else None,
                Cost(_parameters(conv), macs_before.modules[name]),
                Cost(_parameters(layer), macs_after.modules[name]),
            )
        )
    return Report(
        type(host).__name__,
        input_size,
        tuple(rows),
        Cost(_parameters(converted.fg_generator), macs_after.modules[GENERATOR]),
        Cost(_parameters(host), macs_before.total),
        Cost(_parameters(converted), macs_after.total),
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _kind(conv: nn.Conv2d) -> str:
    words = ['x'.join(map(str, conv.kernel_size))]
    if conv.groups == conv.in_channels > 1:
        words.insert(0, 'depthwise')
    elif conv.groups > 1:
        words.insert(0, f'grouped({conv.groups})')
    if set(conv.stride) != {1}:
        words.append('/' + 'x'.join(map(str, conv.stride if len(set(conv.stride)) > 1 else conv.stride[:1])))
    if set(conv.dilation) != {1}:
        words.append(f'dilated {"x".join(map(str, conv.dilation))}')
    if type(conv) is not nn.Conv2d:
        words.append(type(conv).__name__)
    return ' '.join(words)


def _cells(row: ConvRow) -> list[str]:
    filters = f'static: {row.reason}' if row.reason else f'level {row.level}'
    base_filters = '' if row.num_base_filters is None else f'{row.num_base_filters}/{row.num_filters}'
    kept = '' if row.kept_energy is None else f'{row.kept_energy:.1%}'
    return [row.name, row.kind, filters, base_filters, kept, *_cost_cells(row.before, row.after)]


def _cost_cells(before: Cost, after: Cost) -> list[str]:
    return [_count(before.parameters), _count(after.parameters), _millions(before.macs), _millions(after.macs)]


def _count(value: int) -> str:
    return f'{value:,}'


def _millions(macs: int) -> str:
    return f'{macs / 1e6:,.2f}'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    # Names to the left, numbers (from M/N on) to the right.
    sides = ['<'] * 3 + ['>'] * (len(header) - 3)
    rule = ['-' * (width - 1) + (':' if side == '>' else '-') for side, width in zip(sides, widths, strict=True)]
    lines = [
        ' | '.join(f'{cell:{side}{width}}' for cell, side, width in zip(cells, sides, widths, strict=True))
        for cells in (header, rule, *rows)
    ]
    return '\n'.join(f'| {line} |' for line in lines)
