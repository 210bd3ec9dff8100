"""Heads that turn a code into the coefficients of one layer (the fully connected layer of Figure 2)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from fg_plugin.layers.coefficients import FullCoefficients, LowRankCoefficients
from fg_plugin.layers.initialization import orthogonal_

# A head emits this many coefficients a sample at most: 32 MiB in float32, before its activations' gradients.
MAX_COEFFICIENTS = 2**23

# E[z^2] of a code at initialisation: FC with Kaiming init, then (leaky) ReLU. The heads' scales are derived from it.
CODE_SECOND_MOMENT = 0.5


class _HeadLinear(nn.Linear):
    """A linear layer that is initialised by its head, with what only the layer around them knows."""

    _is_built = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_built = True

    def reset_parameters(self) -> None:
        """Leave the values as they are: in a loop over all modules, the layer around has initialised them before."""
        # What the construction draws is part of what follows from a seed.
        if not self._is_built:
            super().reset_parameters()


class FullHead(nn.Module):
    """The paper's head: one fully connected layer from the code to all N x M coefficients (section 3.2).

    Args:
        code_dim: Length L_f of the code.
        out_channels: Number N of generated filters.
        num_base_filters: Number M of base filters.

    Raises:
        ValueError: If a sample would need more than ``MAX_COEFFICIENTS`` coefficients.
    """

    def __init__(
        self,
        code_dim: int,
        out_channels: int,
        num_base_filters: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_coefficients(out_channels, 'num_base_filters', num_base_filters, 'full')
        self.out_channels = out_channels
        self.num_base_filters = num_base_filters
        self.linear = _HeadLinear(code_dim, out_channels * num_base_filters, device=device, dtype=dtype)

    def forward(self, code: Tensor) -> FullCoefficients:
        """Map codes ``(B, L_f)`` to coefficients ``(B, N, M)``."""
        return FullCoefficients(self.linear(code).unflatten(1, (self.out_channels, self.num_base_filters)))

    @torch.no_grad()
    def init_orthogonal_(self, rank_of_repository: int) -> None:
        """Initialise for training from scratch over a repository of orthonormal base filters.

        A generated filter gets an expected squared norm of 2, as Kaiming initialisation gives a convolution before a
        ReLU: half of it static (the bias), half sample-specific. ``nn.Linear``'s default would make the layer's output
        several times its input.

        Args:
            rank_of_repository: ``min(M, L_k)``, the squared Frobenius norm of the orthogonal repository.
        """
        nn.init.normal_(self.linear.bias, std=rank_of_repository**-0.5)
        std = (rank_of_repository * self.linear.in_features * CODE_SECOND_MOMENT) ** -0.5
        nn.init.normal_(self.linear.weight, std=std)

    @torch.no_grad()
    def init_static_(self, coefficients: Tensor | None) -> None:
        """Emit ``coefficients`` (N, M), or the identity for None, whatever the code: the start of a fine-tuning."""
        nn.init.zeros_(self.linear.weight)
        if coefficients is None:
            nn.init.eye_(self.linear.bias.view(self.out_channels, self.num_base_filters))
        else:
            self.linear.bias.copy_(coefficients.flatten())


class _UpdateHead(nn.Module):
    """Static coefficients plus a sample-specific update of rank r: ``w = w_0 + U(z) V``."""

    right: nn.Parameter
    base: nn.Parameter | None

    def __init__(
        self,
        out_channels: int,
        num_base_filters: int,
        rank: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= rank <= min(out_channels, num_base_filters):
            raise ValueError(
                f'rank should be in [1, min(out_channels, num_base_filters)] = [1, '
                f'{min(out_channels, num_base_filters)}], but got {rank}.'
            )
        self.right = nn.Parameter(torch.empty(rank, num_base_filters, device=device, dtype=dtype))
        self.base = None
        if num_base_filters != out_channels:
            self.base = nn.Parameter(torch.empty(out_channels, num_base_filters, device=device, dtype=dtype))

    def _init_orthogonal_base_(self, rank_of_repository: int) -> float:
        """Initialise ``V`` and ``w_0``; return the squared norm of all ``r`` filters ``V b``."""
        orthogonal_(self.right)
        if self.base is not None:
            nn.init.normal_(self.base, std=rank_of_repository**-0.5)
        rank, num_base_filters = self.right.shape
        return rank * rank_of_repository / num_base_filters

    def _init_static_base_(self, coefficients: Tensor | None) -> None:
        orthogonal_(self.right)
        if self.base is None:
            return
        if coefficients is None:
            nn.init.eye_(self.base)
        else:
            self.base.copy_(coefficients)


class LowRankHead(_UpdateHead):
    """Static coefficients plus an update with r sample-specific numbers: ``U(z) = U diag(s(z))``.

    It needs about ``L_f * r + r * (N + M)`` parameters instead of ``L_f * N * M``.

    Args:
        code_dim: Length L_f of the code.
        out_channels: Number N of generated filters.
        num_base_filters: Number M of base filters. For M = N, ``w_0`` is the identity and no parameter.
        rank: Rank r of the update.

    Raises:
        ValueError: If ``rank`` is not in [1, min(N, M)].
    """

    def __init__(
        self,
        code_dim: int,
        out_channels: int,
        num_base_filters: int,
        rank: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(out_channels, num_base_filters, rank, device, dtype)
        self.scale = _HeadLinear(code_dim, rank, device=device, dtype=dtype)
        self.left = nn.Parameter(torch.empty(out_channels, rank, device=device, dtype=dtype))

    def forward(self, code: Tensor) -> LowRankCoefficients:
        """Map codes ``(B, L_f)`` to the factors of the coefficients."""
        return LowRankCoefficients(self.base, self.left * self.scale(code).unsqueeze(1), self.right)

    @torch.no_grad()
    def init_orthogonal_(self, rank_of_repository: int) -> None:
        """Initialise for training from scratch: squared norm 2 a filter, half static, half sample-specific.

        For M = N, the static filters are the base filters. Where these are more than L_k and so not orthonormal, as of
        a depthwise convolution, the static part is smaller: ``L_k / N`` on average.

        Args:
            rank_of_repository: ``min(M, L_k)``, the squared Frobenius norm of the orthogonal repository.
        """
        orthogonal_(self.left)
        energy_of_update = self._init_orthogonal_base_(rank_of_repository)
        nn.init.zeros_(self.scale.bias)
        std = math.sqrt(len(self.left) / (energy_of_update * self.scale.in_features * CODE_SECOND_MOMENT))
        nn.init.normal_(self.scale.weight, std=std)

    @torch.no_grad()
    def init_static_(self, coefficients: Tensor | None) -> None:
        """Emit ``coefficients`` (N, M), or the identity for None, whatever the code: the start of a fine-tuning."""
        out_channels, rank = self.left.shape
        # Rows of norm 1 on average: s is then the size of a filter's update relative to the filters it mixes. With
        # orthonormal columns, training would have to move s by sqrt(N / r) as much.
        orthogonal_(self.left).mul_(math.sqrt(out_channels / rank))
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.scale.bias)
        self._init_static_base_(coefficients)


class ResidualHead(_UpdateHead):
    """Static coefficients plus free ones for r mixtures of the base filters: ``U(z)`` is all sample-specific.

    It is the paper's head over a repository of the r filters ``V b``, whose generated filters are added to static
    ones. It needs about ``L_f * N * r`` parameters, and the same multiplications of maps as ``LowRankHead``.

    Args:
        code_dim: Length L_f of the code.
        out_channels: Number N of generated filters.
        num_base_filters: Number M of base filters. For M = N, ``w_0`` is the identity and no parameter.
        rank: Number r of mixtures.

    Raises:
        ValueError: If ``rank`` is not in [1, min(N, M)], or if a sample would need more than ``MAX_COEFFICIENTS``
            coefficients.
    """

    def __init__(
        self,
        code_dim: int,
        out_channels: int,
        num_base_filters: int,
        rank: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(out_channels, num_base_filters, rank, device, dtype)
        _check_coefficients(out_channels, 'rank', rank, 'residual')
        self.out_channels = out_channels
        self.rank = rank
        self.linear = _HeadLinear(code_dim, out_channels * rank, device=device, dtype=dtype)

    def forward(self, code: Tensor) -> LowRankCoefficients:
        """Map codes ``(B, L_f)`` to the factors of the coefficients."""
        return LowRankCoefficients(
            self.base, self.linear(code).unflatten(1, (self.out_channels, self.rank)), self.right
        )

    @torch.no_grad()
    def init_orthogonal_(self, rank_of_repository: int) -> None:
        """Initialise for training from scratch: squared norm 2 a filter, half static, half sample-specific.

        For M = N, the static filters are the base filters. Where these are more than L_k and so not orthonormal, as of
        a depthwise convolution, the static part is smaller: ``L_k / N`` on average.

        Args:
            rank_of_repository: ``min(M, L_k)``, the squared Frobenius norm of the orthogonal repository.
        """
        energy_of_update = self._init_orthogonal_base_(rank_of_repository)
        nn.init.zeros_(self.linear.bias)
        std = (energy_of_update * self.linear.in_features * CODE_SECOND_MOMENT) ** -0.5
        nn.init.normal_(self.linear.weight, std=std)

    @torch.no_grad()
    def init_static_(self, coefficients: Tensor | None) -> None:
        """Emit ``coefficients`` (N, M), or the identity for None, whatever the code: the start of a fine-tuning."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._init_static_base_(coefficients)


def _check_coefficients(out_channels: int, factor: str, value: int, head: str) -> None:
    if out_channels * value > MAX_COEFFICIENTS:
        smaller_head = "head='residual' or 'lowrank'" if head == 'full' else "head='lowrank'"
        raise ValueError(
            f'out_channels * {factor} should be at most {MAX_COEFFICIENTS:,} for head={head!r}, but got '
            f'{out_channels} * {value} = {out_channels * value:,} coefficients a sample. '
            f'Use {smaller_head}, a smaller {factor}, or exclude the layer.'
        )
