"""Coefficients and generated filters of many samples as short vectors with the same distances.

The coefficients of a full or residual head are affine in the code, those of a low-rank head in its sample-specific
factors, and filters are linear in coefficients. So the difference of two samples is ``A d`` for a short vector ``d``,
with the squared norm ``d' (A'A) d``: no sample's coefficients or filters, of which there may be millions, have to be
kept.
"""

import torch
from torch import Tensor

from fg_plugin.layers import FilterRepoConv
from fg_plugin.layers.coefficient_heads import FullHead, ResidualHead

_FILTERS_AT_A_TIME = 16


@torch.no_grad()
def coefficient_coordinates(layer: FilterRepoConv, codes: Tensor) -> Tensor:
    """Return one vector ``(N, d)`` a sample whose distances are those between the samples' coefficients.

    Args:
        layer: The layer.
        codes: ``(N, L_f)``, of the layer's level.
    """
    return _coordinates(layer, codes, None)


@torch.no_grad()
def filter_coordinates(layer: FilterRepoConv, codes: Tensor) -> Tensor:
    """The same for the generated filters of eq. 2, before a weight-standardised layer standardises them."""
    return _coordinates(layer, codes, layer.weight.detach().cpu().double().flatten(1))


@torch.no_grad()
def mean_square(layer: FilterRepoConv, codes: Tensor, coordinates: Tensor, of_filters: bool = False) -> float:
    """Return the mean over samples of the squared norm of the coefficients, or of the filters.

    Args:
        layer: The layer.
        codes: ``(N, L_f)``.
        coordinates: Of the coefficients or of the filters.
        of_filters: Which of the two.
    """
    mean_code = codes.mean(0, keepdim=True).to(layer.weight)
    # Their mean is what the mean code gives, as all heads are affine.
    mean = layer.coefficient_head(mean_code)
    values = mean.filters(layer.weight) if of_filters else mean.dense()
    return values.double().square().sum().item() + variance(coordinates)


def variance(coordinates: Tensor) -> float:
    """Return the mean squared distance of ``coordinates`` (N, d) from their mean."""
    return (coordinates - coordinates.mean(0)).square().sum(1).mean().item()


def principal_coordinates(features: Tensor, dimensions: int) -> Tensor:
    """Rotate centred ``features`` (N, F) and keep the ``dimensions`` of the largest variance, ``(N, d)``."""
    centred = features.double() - features.double().mean(0)
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    return (vectors * values.clamp(min=0).sqrt())[:, -dimensions:].flip(1)


def _coordinates(layer: FilterRepoConv, codes: Tensor, repository: Tensor | None) -> Tensor:
    head = layer.coefficient_head
    if isinstance(head, FullHead | ResidualHead):
        weight = head.linear.weight.detach().cpu().unflatten(0, (head.out_channels, -1))
        if isinstance(head, ResidualHead):
            right = head.right.detach().cpu().double()
            repository = right if repository is None else right @ repository
        gram = torch.zeros(weight.shape[2], weight.shape[2], dtype=torch.float64)
        for filters in weight.split(_FILTERS_AT_A_TIME):
            part = filters.double()
            if repository is not None:
                part = torch.einsum('nml,mk->nkl', part, repository)
            gram += part.flatten(0, 1).T @ part.flatten(0, 1)
        drivers = codes.double()
    else:
        left, right = head.left.detach().cpu().double(), head.right.detach().cpu().double()
        right = right if repository is None else right @ repository
        gram = (left.T @ left) * (right @ right.T)
        drivers = codes.double() @ head.scale.weight.detach().cpu().double().T
    values, vectors = torch.linalg.eigh(gram)
    return drivers @ (vectors * values.clamp(min=0).sqrt())
