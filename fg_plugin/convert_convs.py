"""Replace the convolutions of a network by generated-filter layers, and back; the caller provides the codes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fg_plugin.conv_selection import ConvRecord, Selection, select_convs
from fg_plugin.layer_lookup import layers_of
from fg_plugin.layers import FilterRepoConv, layer_class
from fg_plugin.layers.filter_repo_conv import without_autocast


def convert_convs_(
    model: nn.Module,
    *,
    code_dims: Sequence[int],
    level_sizes: Sequence[int],
    input_size: tuple[int, int, int],
    include: Sequence[str] = ('*',),
    exclude: Sequence[str] = (),
    levels: str | Mapping[str, int] = 'depth',
    **layer_options: Any,
) -> list[ConvRecord]:
    """Replace convolutions of ``model`` by ``FilterRepoConv`` in place. All checks come before the first change.

    Args:
        model: The host network.
        code_dims: Length L_f of each level's code.
        level_sizes: As in ``select_convs``, and so are ``input_size`` to ``levels``.
        layer_options: As in ``build_layers``.

    Returns:
        One record per ``nn.Conv2d`` of the model, in the order of ``named_modules``.

    Raises:
        NothingMatchedError: As ``select_convs``.
        ValueError: As ``select_convs``, for an option that a layer refuses (the layer is named), or if ``model`` is a
            single convolution, which cannot be replaced in itself.
    """
    if isinstance(model, nn.Conv2d):
        raise ValueError(
            f'The model should hold its convolutions, but got a {type(model).__name__} itself. Put it into an '
            f'nn.Sequential, or build a FilterRepoConv.'
        )
    selection = select_convs(
        model, level_sizes=level_sizes, input_size=input_size, include=include, exclude=exclude, levels=levels
    )
    layers = build_layers(selection, dict(enumerate(code_dims)), **layer_options)
    replace_modules_(model, layers)
    return selection.records


def build_layers(
    selection: Selection,
    code_dims: Mapping[int, int],
    num_base_filters: int | float | None = None,
    **layer_options: Any,
) -> dict[nn.Module, FilterRepoConv]:
    """Build the generated-filter layers of ``selection``.

    Args:
        selection: The convolutions.
        code_dims: Length of the code of each encoder level in use. The layers count only these levels.
        layer_options: ``head``, ``rank``, ``num_base_filters`` and ``init``, as in ``FilterRepoConv.from_conv``;
            ``num_base_filters`` may also be a float, which is the ratio M/N of every layer.

    Returns:
        The layers by the convolution to replace.

    Raises:
        ValueError: For an option that a layer refuses (the layer is named).
    """
    position = {level: index for index, level in enumerate(sorted(code_dims))}
    layers: dict[nn.Module, FilterRepoConv] = {}
    for name, level in selection.levels.items():
        conv = selection.convs[name]
        cls = layer_class(conv)
        if cls is None:
            raise ValueError(f"'{name}' cannot be converted: there is no layer for {type(conv).__name__}.")
        try:
            layers[conv] = cls.from_conv(
                conv,
                code_dim=code_dims[level],
                level=position[level],
                num_base_filters=_repository_size(num_base_filters, conv.out_channels),
                **layer_options,
            )
        except ValueError as error:
            raise ValueError(f"'{name}' cannot be converted: {error}") from error
        layers[conv].name = name
        layers[conv].folds = name in selection.folded
    return layers


def _repository_size(num_base_filters: int | float | None, num_filters: int) -> int | None:
    if not isinstance(num_base_filters, float):
        return num_base_filters
    if not 0 < num_base_filters < math.inf:
        raise ValueError(
            f'num_base_filters should be > 0 as a ratio M/N (a float), but got {num_base_filters}. For a number of '
            f'base filters give an int.'
        )
    return max(1, round(num_base_filters * num_filters))


def generated_layers(model: nn.Module) -> dict[str, FilterRepoConv]:
    """Return the generated-filter layers of ``model`` by name.

    Raises:
        ValueError: If there are none.
    """
    layers = layers_of(model)
    if not layers:
        raise ValueError('The model has no generated-filter layer: it was not converted, or it is reverted already.')
    return layers


def revert_convs_(model: nn.Module) -> None:
    """Put ordinary convolutions back in place of the generated-filter layers, all or none.

    A layer converted with ``init='preserve'`` and M = N gives back a convolution whose weight is its repository: the
    original one, bit for bit, unless training moved it.

    Raises:
        ValueError: If nothing is converted, or a layer cannot give its original weight back.
    """
    layers = generated_layers(model)
    _check_repositories(layers)
    for name, layer in layers.items():
        if not layer.preserves_conv:
            raise ValueError(
                f"'{name}' cannot be reverted: its repository of {layer.num_base_filters} base filters is not the "
                f"weight of the convolution it replaced. Only init='preserve' with num_base_filters=None keeps it."
            )
    replace_modules_(model, {layer: layer.to_conv() for layer in layers.values()})


@torch.no_grad()
def freeze_convs_(model: nn.Module, codes: Sequence[Tensor]) -> None:
    """Replace each generated-filter layer by an ordinary convolution with the filters of ``codes``.

    Args:
        model: The host network.
        codes: One code ``(1, L_f)`` per level of the encoder. The heads are affine: the filters of a mean code are
            the mean filters; those of weight-standardised convolutions before they are standardised.

    Raises:
        ValueError: If nothing is converted, or a repository is not the layer's own parameter.
    """
    layers = generated_layers(model)
    _check_repositories(layers)
    frozen = {}
    for layer in layers.values():
        with without_autocast(layer.weight):
            frozen[layer] = layer.frozen(layer.coefficients_of(codes[layer.level]))
    replace_modules_(model, frozen)


def _check_repositories(layers: Mapping[str, FilterRepoConv]) -> None:
    for name, layer in layers.items():
        if 'weight' not in layer._parameters:
            raise ValueError(
                f"The filter repository of '{name}' should be a parameter, but is computed from others, as pruning and "
                f'weight normalisation do. Undo it first: torch.nn.utils.prune.remove, remove_weight_norm, or '
                f'parametrize.remove_parametrizations.'
            )


# What nn.Module keeps of its hooks. The replacement shares these, so that a hook's handle still removes it.
_HOOKS = (
    '_forward_hooks',
    '_forward_hooks_with_kwargs',
    '_forward_hooks_always_called',
    '_forward_pre_hooks',
    '_forward_pre_hooks_with_kwargs',
    '_backward_hooks',
    '_backward_pre_hooks',
    '_is_full_backward_hook',
)


def replace_modules_(model: nn.Module, replacements: Mapping[Any, nn.Module]) -> None:
    """Replace modules wherever they appear (a shared module stays shared), with their forward and backward hooks."""
    for old, new in replacements.items():
        for attribute in _HOOKS:
            setattr(new, attribute, getattr(old, attribute))
    for parent in list(model.modules()):
        # Not named_children(): it lists a module that has two names only once.
        for child_name, child in parent._modules.items():
            if child is not None and child in replacements:
                parent._modules[child_name] = replacements[child]
