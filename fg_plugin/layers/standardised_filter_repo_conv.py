"""Generated filters for weight-standardised convolutions."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fg_plugin.layers import compute_paths
from fg_plugin.layers.coefficients import Coefficients, LowRankCoefficients
from fg_plugin.layers.compute_paths import ConvArguments
from fg_plugin.layers.filter_repo_conv import FilterRepoConv, without_autocast


class StandardisedFilterRepoConv(FilterRepoConv):
    """A generated-filter layer in place of timm's ``StdConv2d`` or ``ScaledStdConv2d``, also with 'same' padding.

    It standardises each generated filter as they do their own: ``(k_n - mean(k_n)) / sqrt(var(k_n) + eps)``, times the
    gain of a scaled one. This leaves the combination linear: the mean of ``k_n = sum_j w_nj b_j`` is taken off by
    centring the base filters, and its variance, the squared norm of the combination of centred base filters over
    ``L_k``, becomes a factor of its coefficients.

    Attributes:
        eps: Added to the variance.
        gain: ``(N, 1, 1, 1)``, of a scaled convolution only; None otherwise.
        scale: Constant factor of ``gain``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eps = 1e-6
        self.scale = 1.0
        self.register_parameter('gain', None)

    def _take_over_(self, conv: nn.Conv2d) -> None:
        super()._take_over_(conv)
        self.eps = conv.eps  # type: ignore[assignment]
        if 'gain' in conv._parameters:
            self.gain = conv._parameters['gain']
            self.scale = conv.scale  # type: ignore[assignment]

    def _generation(self, coefficients: Coefficients) -> tuple[Tensor, Coefficients]:
        # In the precision of the repository: half precision has too few digits for a variance.
        with without_autocast(self.weight):
            rows = self.weight.flatten(1)
            centred = rows - rows.mean(1, keepdim=True)
            variance = coefficients.energies(centred) / rows.shape[1]
            factors = torch.rsqrt(variance + self.eps)
            if self.gain is not None:
                factors = factors * (self.gain * self.scale).flatten()
            return centred.view_as(self.weight), coefficients.scale_filters(factors)

    def _compute(
        self, path: str, x: Tensor, repository: Tensor, coefficients: Coefficients, conv: ConvArguments
    ) -> Tensor:
        out_pixels = math.prod(compute_paths.output_size(x.shape[2:], repository.shape[2:], conv))
        # The gradient of the factors needs the maps before their multiplication. Where these are larger than the input,
        # they are computed again for it rather than kept; the convolution is then a cheap one for its size.
        if (
            torch.is_grad_enabled()
            and not compute_paths.is_transformed()
            and path == 'factored'
            and isinstance(coefficients, LowRankCoefficients)
            and self.out_channels * out_pixels > x.shape[1:].numel()
        ):
            arguments = (path, x, repository, coefficients, conv)
            return checkpoint(super()._compute, *arguments, use_reentrant=False, preserve_rng_state=False)
        return super()._compute(path, x, repository, coefficients, conv)
