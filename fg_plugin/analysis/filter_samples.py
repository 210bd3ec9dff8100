"""Base filters and the filters generated for some samples."""

from typing import NamedTuple

import torch
from torch import Tensor

from fg_plugin.layers import FilterRepoConv

MAX_FILTERS = 12


class FilterSamples(NamedTuple):
    """Filters of one layer, at most ``MAX_FILTERS`` of each kind.

    Attributes:
        base: Base filters ``(M', C/g, kh, kw)``.
        mean: Mean generated filters over all samples ``(N', C/g, kh, kw)``.
        generated: Those of some samples ``(S, N', C/g, kh, kw)``, before a weight-standardised layer standardises them.
    """

    base: Tensor
    mean: Tensor
    generated: Tensor


@torch.no_grad()
def filter_samples(layer: FilterRepoConv, codes: Tensor, chosen: Tensor) -> FilterSamples:
    """Return filters of ``layer`` for the samples at the positions ``chosen`` (S,) of ``codes`` (N, L_f)."""
    mean_code = codes.mean(0, keepdim=True)
    filters = [
        layer.coefficient_head(code.to(layer.weight)).filters(layer.weight)[0, :MAX_FILTERS].float().cpu()
        for code in (mean_code, *codes[chosen].split(1))
    ]
    return FilterSamples(layer.weight.detach()[:MAX_FILTERS].float().cpu(), filters[0], torch.stack(filters[1:]))
