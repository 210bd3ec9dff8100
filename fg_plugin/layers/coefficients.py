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

    def energies(self, rows: Tensor) -> Tensor:
        """Return the squared norms ``(B, N)`` of the filters generated from base filters ``(M, L_k)``."""
        weight = self.weight.to(rows.dtype)
        return (weight @ (rows @ rows.T)).mul(weight).sum(2)

    def scale_filters(self, factors: Tensor) -> 'FullCoefficients':
        """Multiply each generated filter by its factor, ``(B, N)``."""
        return FullCoefficients(self.weight * factors.unsqueeze(2))

    def repeat(self, times: int) -> 'FullCoefficients':
        """Repeat each sample's coefficients ``times`` times in place (for a batch folded with views, windows, ...)."""
        return FullCoefficients(self.weight.repeat_interleave(times, dim=0))


class LowRankCoefficients(NamedTuple):
    """Static coefficients plus a sample-specific update of low rank, ``w = w_0 + U V``.

    The decomposition is that of Dynamic Convolution Decomposition (Li et al., ICLR 2021).

    Attributes:
        base: ``w_0``, ``(N, M)``, or None for the identity (then M = N).
        left: ``U``, ``(B, N, r)``, the sample-specific part.
        right: ``V``, ``(r, M)``.
        factors: Factors of the generated filters, ``(B, N)``, that multiply all of the above; None for 1.
    """

    base: Tensor | None
    left: Tensor
    right: Tensor
    factors: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Number B of samples."""
        return self.left.shape[0]

    def dense(self) -> Tensor:
        """Return the coefficients as ``(B, N, M)``."""
        update = self.left @ self.right
        if self.base is not None:
            weight = self.base + update
        else:
            weight = update + torch.eye(update.shape[1], dtype=update.dtype, device=update.device)
        return weight if self.factors is None else weight * self.factors.unsqueeze(2)

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
        update = self.left @ self.update_filters(repository).flatten(1)
        filters = self.static_filters(repository) + update.unflatten(2, repository.shape[1:])
        return filters if self.factors is None else filters * self.factors[:, :, None, None, None]

    def energies(self, rows: Tensor) -> Tensor:
        """Return the squared norms ``(B, N)`` of the filters generated from base filters ``(M, L_k)``.

        No ``(B, N, M)`` coefficients are formed, nor the base filters' ``(M, M)`` Gram matrix, which is larger than
        the filters of a 1x1 convolution that widens: ``|w_0 b|^2 + 2 <w_0 b, u> + |u|^2`` for the update ``u`` of rank
        r.
        """
        static = rows if self.base is None else self.base @ rows
        update = self.right @ rows
        left = self.left.to(rows.dtype)
        cross = (left * (static @ update.T)).sum(2)
        update_energy = (left @ (update @ update.T)).mul(left).sum(2)
        return static.square().sum(1) + 2 * cross + update_energy

    def scale_filters(self, factors: Tensor) -> 'LowRankCoefficients':
        """Multiply each generated filter by its factor, ``(B, N)``."""
        return self._replace(factors=factors if self.factors is None else self.factors * factors)

    def repeat(self, times: int) -> 'LowRankCoefficients':
        """Repeat each sample's coefficients ``times`` times in place (for a batch folded with views, windows, ...)."""
        factors = None if self.factors is None else self.factors.repeat_interleave(times, dim=0)
        return self._replace(left=self.left.repeat_interleave(times, dim=0), factors=factors)


Coefficients = FullCoefficients | LowRankCoefficients
