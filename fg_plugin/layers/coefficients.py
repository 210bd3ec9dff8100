"""Coefficients of eq. 2, in the form their head emits them."""

from typing import NamedTuple

import torch
from torch import Tensor


class FullCoefficients(NamedTuple):
    """One free coefficient per (sample, filter, base filter): the paper's form.

    Attributes:
        weight: ``(B, N, M)``.
    """

    weight: Tensor

    @property
    def num_samples(self) -> int:
        """Number B of samples."""
        return self.weight.shape[0]

    def dense(self) -> Tensor:
        """Return the coefficients as ``(B, N, M)``."""
        return self.weight

    def filters(self, repository: Tensor) -> Tensor:
        """Linearly combine base filters ``(M, C/g, kh, kw)`` into generated filters ``(B, N, C/g, kh, kw)`` (eq. 2)."""
        return (self.weight @ repository.flatten(1)).unflatten(2, repository.shape[1:])

    def repeat(self, times: int) -> 'FullCoefficients':
        """Repeat each sample's coefficients ``times`` times in place (for a batch folded with views, windows, ...)."""
        return FullCoefficients(self.weight.repeat_interleave(times, dim=0))


class LowRankCoefficients(NamedTuple):
    """Static coefficients plus a sample-specific update of low rank, ``w = w_0 + U diag(s) V``.

    The decomposition is that of Dynamic Convolution Decomposition (Li et al., ICLR 2021).

    Attributes:
        base: ``w_0``, ``(N, M)``, or None for the identity (then M = N).
        left: ``U``, ``(N, r)``.
        scale: ``s``, ``(B, r)``, the sample-specific part.
        right: ``V``, ``(r, M)``.
    """

    base: Tensor | None
    left: Tensor
    scale: Tensor
    right: Tensor

    @property
    def num_samples(self) -> int:
        """Number B of samples."""
        return self.scale.shape[0]

    def dense(self) -> Tensor:
        """Return the coefficients as ``(B, N, M)``."""
        update = (self.left * self.scale.unsqueeze(1)) @ self.right
        if self.base is not None:
            return self.base + update
        return update + torch.eye(update.shape[1], dtype=update.dtype, device=update.device)

    def static_filters(self, repository: Tensor) -> Tensor:
        """Return the filters ``w_0 b`` common to all samples, ``(N, C/g, kh, kw)``."""
        if self.base is None:
            return repository
        return (self.base @ repository.flatten(1)).unflatten(1, repository.shape[1:])

    def update_filters(self, repository: Tensor) -> Tensor:
        """Return the ``r`` filters ``V b`` that the update mixes, ``(r, C/g, kh, kw)``."""
        return (self.right @ repository.flatten(1)).unflatten(1, repository.shape[1:])

    def filters(self, repository: Tensor) -> Tensor:
        """Linearly combine base filters ``(M, C/g, kh, kw)`` into generated filters ``(B, N, C/g, kh, kw)`` (eq. 2)."""
        update = (self.left * self.scale.unsqueeze(1)) @ self.update_filters(repository).flatten(1)
        return self.static_filters(repository) + update.unflatten(2, repository.shape[1:])

    def repeat(self, times: int) -> 'LowRankCoefficients':
        """Repeat each sample's coefficients ``times`` times in place (for a batch folded with views, windows, ...)."""
        return self._replace(scale=self.scale.repeat_interleave(times, dim=0))


Coefficients = FullCoefficients | LowRankCoefficients
