"""Convolution whose filters are generated for each sample from a filter repository."""

import math
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from fg_plugin.conditioning import current_conditioning
from fg_plugin.layers import compute_paths
from fg_plugin.layers.coefficient_heads import FullHead, LowRankHead, ResidualHead
from fg_plugin.layers.coefficients import Coefficients
from fg_plugin.layers.combining import is_channels_last
from fg_plugin.layers.compute_paths import PATHS, ConvArguments
from fg_plugin.layers.cost_model import Workload, cheapest_path
from fg_plugin.layers.initialization import orthogonal_

HEADS = ('full', 'lowrank', 'residual')
_UPDATE_HEADS: dict[str, type[LowRankHead] | type[ResidualHead]] = {'lowrank': LowRankHead, 'residual': ResidualHead}
# What a host may change of a built convolution.
_GEOMETRY = ('stride', 'padding', 'dilation', 'padding_mode', '_reversed_padding_repeated_twice')
# What another module in the place of a convolution cannot take over. The latter runs the convolution itself.
_OWN_TO_A_CONV = ('_parameters', '_compiled_call_impl')


class _Plan(NamedTuple):
    """What follows from the shapes of a call, and not from its values.

    Attributes:
        path: Name of the compute path.
        conv: Arguments of the convolution.
        pad_arguments: What ``F.pad`` must do first, None for nothing.
        repeats: How many consecutive entries of the batch share a code.
        channels_last: Whether the output is in channels_last format, as the input is.
    """

    path: str
    conv: ConvArguments
    pad_arguments: tuple[list[int], str] | None
    repeats: int
    channels_last: bool


class HostConv(NamedTuple):
    """The convolution that a generated-filter layer took the place of, without its parameters.

    Attributes:
        cls: Its class.
        attributes: Its ``__dict__``, apart from the parameters and from what ``compile()`` has made of its forward.
        parameters: Names of its parameters.
    """

    cls: type[nn.Conv2d]
    attributes: dict[str, Any]
    parameters: tuple[str, ...]


class FilterRepoConv(nn.Conv2d):
    """A convolution with sample-specific filters ``k_n = sum_j w_nj b_j`` (eq. 2, Figure 2).

    ``weight`` is the filter repository, ``(M, C/groups, kh, kw)``: with M = N, a checkpoint of the ordinary
    convolution loads into it. The coefficients come from the code of encoder level ``level``, which the enclosing
    ``conditioning_scope`` provides (see ``fg_plugin.conditioning``). The bias is static.

    Args:
        in_channels: As in ``nn.Conv2d``.
        out_channels: Number N of generated filters.
        kernel_size: As in ``nn.Conv2d``, and so are ``stride`` to ``dtype``.
        code_dim: Length L_f of the code.
        level: Index of the encoder level whose code drives this layer.
        num_base_filters: Number M of base filters in the repository; None means N, as in the paper.
        head: ``'full'`` (the paper's), ``'lowrank'`` or ``'residual'`` (see ``coefficient_heads``).
        rank: Rank of a head that is not ``'full'``; at most min(N, M) is used.
        path: ``'auto'`` lets the cost model choose, or one of ``compute_paths.PATHS``.

    Shape:
        ``(B, C, H, W)`` -> ``(B, N, H', W')``. The codes are ``(B, L_f)``; ``(1, L_f)`` shares one sample's filters
        among the batch; for an input batch of k * B (windows, patches, heads folded into the batch, sample-major) each
        code serves k consecutive entries.

    Raises:
        ValueError: At construction, for an option out of its range.
        RuntimeError: In ``forward``, without a conditioning or with one that does not fit.
    """

    # True while load_state_dict runs, which may assign the weight.
    _loading = False
    # Whether its batch held several rows of each sample when the network was traced, in an order that was found to be
    # sample by sample; None for a layer that no trace has seen.
    folds: bool | None = None
    # The key and the plan of the latest call.
    _latest_plan: tuple[tuple, _Plan] | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros',
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        code_dim: int,
        level: int = 0,
        num_base_filters: int | None = None,
        head: str = 'full',
        rank: int = 8,
        path: str = 'auto',
    ) -> None:
        num_base_filters = out_channels if num_base_filters is None else num_base_filters
        _check_positive(code_dim=code_dim, num_base_filters=num_base_filters, rank=rank)
        if level < 0:
            raise ValueError(f'level should be >= 0, but got {level}.')
        if head not in HEADS:
            raise ValueError(f'head should be one of {HEADS}, but got {head!r}.')
        if path != 'auto' and path not in PATHS:
            raise ValueError(f"path should be 'auto' or one of {PATHS}, but got {path!r}.")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self.level = level
        self.code_dim = code_dim
        self.num_base_filters = num_base_filters
        self.path = path
        self.name = ''
        self.preserves_conv = False
        # Part of the original filters' squared norm that M < N base filters keep, where they approximate them.
        self.kept_energy: float | None = None
        self.dynamic_same = False
        self._host: HostConv | None = None
        repository = nn.Parameter(self.weight.new_empty(num_base_filters, *self.weight.shape[1:]))
        self.register_parameter('weight', repository)
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        self.coefficient_head: FullHead | LowRankHead | ResidualHead
        if head == 'full':
            self.coefficient_head = FullHead(code_dim, out_channels, num_base_filters, **factory)
        else:
            rank = min(rank, out_channels, num_base_filters)
            self.coefficient_head = _UPDATE_HEADS[head](code_dim, out_channels, num_base_filters, rank, **factory)
        self.reset_parameters()

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        *,
        code_dim: int,
        level: int = 0,
        num_base_filters: int | None = None,
        head: str = 'full',
        rank: int = 8,
        init: str = 'preserve',
    ) -> 'FilterRepoConv':
        """Make a generated-filter layer that takes the place of ``conv``.

        Args:
            conv: The ordinary convolution.
            code_dim: As in the constructor, and so are ``level``, ``num_base_filters``, ``head`` and ``rank``.
            init: ``'preserve'`` computes what ``conv`` computes until training moves it: for M = N the repository is
                ``conv``'s own ``weight`` parameter and the coefficients are the identity; for M < N the repository
                holds the M leading right singular vectors of the filters. ``'orthogonal'`` starts from scratch as the
                paper does, with an orthogonal repository.

        Returns:
            A layer that shares the ``bias`` parameter of ``conv``, on its device and with its dtype.

        Raises:
            ValueError: For an unknown ``init``, or M > N with ``'preserve'``.
        """
        if init not in ('preserve', 'orthogonal'):
            raise ValueError(f"init should be 'preserve' or 'orthogonal', but got {init!r}.")
        if init == 'preserve' and num_base_filters is not None and num_base_filters > conv.out_channels:
            raise ValueError(
                f"num_base_filters should be at most out_channels={conv.out_channels} with init='preserve', but got "
                f"{num_base_filters}. Use init='orthogonal' to train a larger repository from scratch."
            )
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            # Filled in below: initialising a repository only to discard it takes seconds for a large network.
            'meta' if init == 'preserve' else conv.weight.device,
            conv.weight.dtype,
            code_dim=code_dim,
            level=level,
            num_base_filters=num_base_filters,
            head=head,
            rank=rank,
        )
        layer.bias = conv.bias
        layer._take_over_(conv)
        layer.weight.requires_grad_(conv.weight.requires_grad)
        if init == 'preserve':
            layer.preserves_conv = layer.num_base_filters == layer.out_channels
            layer.coefficient_head.to_empty(device=conv.weight.device)
            layer._preserve_(conv.weight)
        return layer.train(conv.training)

    def _take_over_(self, conv: nn.Conv2d) -> None:
        """Adopt what the class of ``conv`` adds to ``nn.Conv2d``: here, padding that follows from the input's size."""
        self.dynamic_same = isinstance(conv, Conv2dSame) or getattr(conv, 'same_pad', False)
        attributes = {name: value for name, value in conv.__dict__.items() if name not in _OWN_TO_A_CONV}
        self._host = HostConv(type(conv), attributes, tuple(conv._parameters))
        # What the network has noted on its convolution, it may read there.
        self.__dict__.update({name: value for name, value in attributes.items() if name not in self.__dict__})

    def to_conv(self) -> nn.Conv2d:
        """Return the convolution that ``from_conv`` took the place of, of the same class, sharing its parameters.

        Raises:
            ValueError: If the repository is not that convolution's weight (``preserves_conv`` is False).
        """
        if not self.preserves_conv:
            raise ValueError(
                "A generated-filter layer gives its convolution back only after from_conv(..., init='preserve') with "
                'num_base_filters=None, because otherwise the original weight is not kept.'
            )
        return self._conv_with(self.weight)

    def resampled(self, conv: nn.Conv2d) -> 'FilterRepoConv':
        """Return this layer with the weight of ``conv`` as its repository, resampled to another kernel size.

        Resampling is linear: the generated filters are those of this layer, resampled. The head stays shared.
        """
        layer = type(self).from_conv(conv, code_dim=self.code_dim, level=self.level, rank=1, head='lowrank')
        layer.coefficient_head = self.coefficient_head
        layer.preserves_conv = self.preserves_conv
        layer.name = self.name
        layer.folds = self.folds
        layer.path = self.path
        return layer

    def frozen(self, coefficients: Coefficients) -> nn.Conv2d:
        """Return an ordinary convolution, of the class of the original one, with the filters of one sample.

        Args:
            coefficients: Of the one sample, as the head emits them.
        """
        filters = coefficients.filters(self.weight)[0].detach().to(self.weight.dtype)
        # That of the repository, as Module.to(memory_format=...) left it.
        memory_format = torch.contiguous_format if self.weight.is_contiguous() else torch.channels_last
        return self._conv_with(nn.Parameter(filters.contiguous(memory_format=memory_format), self.weight.requires_grad))

    def _conv_with(self, weight: Tensor) -> nn.Conv2d:
        if self._host is None:
            conv = nn.Conv2d(
                self.in_channels,
                self.out_channels,
                self.kernel_size,  # type: ignore[arg-type]
                self.stride,  # type: ignore[arg-type]
                self.padding,  # type: ignore[arg-type]
                self.dilation,  # type: ignore[arg-type]
                self.groups,
                bias=False,
                padding_mode=self.padding_mode,
                device='meta',
            )
        else:
            conv = self._host.cls.__new__(self._host.cls)
            geometry = {name: getattr(self, name) for name in _GEOMETRY}
            conv.__dict__.update(self._host.attributes, **geometry, _parameters={})
            for name in self._host.parameters:
                conv.register_parameter(name, self._parameters[name])
        conv.register_parameter('weight', weight)  # type: ignore[arg-type]
        conv.register_parameter('bias', self.bias)  # type: ignore[arg-type]
        return conv.train(self.training)

    def reset_parameters(self) -> None:
        """Initialise for training from scratch: orthogonal repository (section 3.2), coefficients of matching scale."""
        super().reset_parameters()
        # nn.Conv2d's constructor calls this method before the repository and the head exist.
        if hasattr(self, 'coefficient_head'):
            orthogonal_(self.weight)
            self.coefficient_head.init_orthogonal_(min(self.num_base_filters, self.weight[0].numel()))

    def reset_generation(self) -> None:
        """Initialise what the layer adds to a convolution, as right after the conversion."""
        if self.preserves_conv:
            self.coefficient_head.init_static_(None)
        else:
            self.reset_parameters()

    @torch.no_grad()
    def _preserve_(self, weight: Tensor) -> None:
        if self.num_base_filters == self.out_channels:
            self.register_parameter('weight', weight)  # type: ignore[arg-type]
            self.coefficient_head.init_static_(None)
            return
        self.register_parameter('weight', nn.Parameter(weight.new_empty(self.weight.shape), weight.requires_grad))
        orthogonal_(self.weight)
        self.weight.copy_(self._factorised_(weight))

    @torch.no_grad()
    def _factorised_(self, weight: Tensor) -> Tensor:
        """Set the head to emit ``weight`` from the repository that is returned, as well as M base filters can."""
        base_filters, coefficients, self.kept_energy = _factorise(weight, self.num_base_filters)
        # Base filters beyond the rank of the weight stay as initialised: with zero coefficients they only add freedom.
        repository = self.weight.detach().clone()
        repository[: len(base_filters)] = base_filters
        padding = self.num_base_filters - len(base_filters)
        self.coefficient_head.init_static_(F.pad(coefficients, (0, padding)).to(self.weight))
        return repository

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a new ``weight``: code that folds a batch normalisation into a convolution assigns one.

        A repository that was taken away on purpose may come back as another tensor: in a replica of ``DataParallel``,
        pruned, or with its norm as a parameter of its own.

        Raises:
            RuntimeError: If ``weight`` is assigned while there is one after construction, except by
                ``load_state_dict(assign=True)`` and by ``fully_shard``, which exchanges a parameter and its shard.
        """
        complete = 'coefficient_head' in self.__dict__.get('_modules', ())
        old = self._parameters.get('weight') if name == 'weight' and complete else None
        if old is not None and not (self._loading or _is_shard(value) or _is_shard(old)):
            raise RuntimeError(
                f"The weight of the generated-filter layer '{self.name}' is a filter repository and cannot be replaced "
                f'by another weight, as fusing it with a batch normalisation does: the filters are combined from it '
                f'for each image. Fuse or reparameterise the network before its conversion.'
            )
        # Hosts change the stride or dilation of a built layer.
        self.__dict__.pop('_latest_plan', None)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the latest plan out of copies and pickles."""
        return {name: value for name, value in super().__getstate__().items() if name != '_latest_plan'}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        self._factorise_plain_weight(state_dict, prefix)
        self._loading = True
        try:
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        finally:
            self._loading = False

    def _factorise_plain_weight(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Turn an ordinary convolution's weight into a repository of M < N base filters and static coefficients."""
        weight = state_dict.get(prefix + 'weight')
        if any(key.startswith(prefix + 'coefficient_head.') for key in state_dict):
            self.kept_energy = None
            return
        if (
            weight is None
            or self.num_base_filters >= self.out_channels
            or weight.shape != (self.out_channels, *self.weight.shape[1:])
        ):
            return
        state_dict[prefix + 'weight'] = self._factorised_(weight)

    def coefficients(self) -> Coefficients:
        """Return the coefficients of the current conditioning.

        Raises:
            RuntimeError: Without a conditioning, or if its codes do not fit this layer.
        """
        conditioning = current_conditioning()
        if conditioning is None:
            raise RuntimeError(
                f"The generated-filter layer '{self.name}' was called without conditioning: there is no image to "
                f'generate its filters from. Call the model that holds it (FGBackboneWrapper), or call the layer '
                f"inside 'with model.conditioned_on(images):'. In backward, where a checkpoint recomputes it, the "
                f'checkpoint should be called by its full name torch.utils.checkpoint.checkpoint.'
            )
        if self.level >= len(conditioning.codes):
            raise RuntimeError(
                f"The generated-filter layer '{self.name}' needs the code of level {self.level}, but the conditioning "
                f'has {len(conditioning.codes)} levels.'
            )
        code = conditioning.codes[self.level]
        if code.shape[1] != self.code_dim:
            raise RuntimeError(
                f"The generated-filter layer '{self.name}' needs a code of length {self.code_dim}, but level "
                f'{self.level} has length {code.shape[1]}.'
            )
        return self.coefficients_of(code)

    def coefficients_of(self, code: Tensor) -> Coefficients:
        """Return the coefficients that the head has for ``code`` (B, L_f), also where the layer is of another dtype."""
        # The generator has one dtype, a host may have several.
        if code.dtype != self.weight.dtype and not torch.is_autocast_enabled(code.device.type):
            code = code.to(self.weight.dtype)
        # So may a host on several devices.
        if code.device != self.weight.device:
            code = code.to(self.weight.device)
        return self.coefficient_head(code)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve each sample of ``input`` (B, C, H, W) with its own filters."""
        repository, coefficients = self._generation(self.coefficients())
        if self.dynamic_same:
            input = pad_same(input, self.kernel_size, self.stride, self.dilation)  # type: ignore[arg-type]
        plan = self._plan(input, coefficients.num_samples)
        if plan.repeats != 1:
            coefficients = coefficients.repeat(plan.repeats)
        if plan.pad_arguments is not None:
            input = F.pad(input, *plan.pad_arguments)
        out = self._compute(plan.path, input, repository, coefficients, plan.conv)
        if plan.channels_last:
            # As an ordinary convolution does, for the layers that come next.
            out = out.contiguous(memory_format=torch.channels_last)
        return out if self.bias is None else out + self.bias.to(out.dtype).view(-1, 1, 1)

    def _generation(self, coefficients: Coefficients) -> tuple[Tensor, Coefficients]:
        """Return the base filters, and the coefficients that combine them into the filters to convolve with."""
        return self.weight, coefficients

    def _compute(
        self, path: str, x: Tensor, repository: Tensor, coefficients: Coefficients, conv: ConvArguments
    ) -> Tensor:
        return getattr(compute_paths, path)(x, repository, coefficients, conv)

    def _plan(self, x: Tensor, images: int) -> _Plan:
        """Return how to compute the output for ``x`` with the filters of so many images.

        The latest plan is kept until an attribute changes: between two convolutions, when the processor's caches hold
        neither its code nor its data, making it would take a noticeable part of the time of a small layer.
        """
        if compute_paths.is_transformed():
            return self._make_plan(x.shape, is_channels_last(x), images)
        key = (x.shape, is_channels_last(x), images, torch.is_grad_enabled())
        latest = self._latest_plan
        if latest is not None and latest[0] == key:
            return latest[1]
        plan = self._make_plan(*key[:3])
        self.__dict__['_latest_plan'] = (key, plan)
        return plan

    def _make_plan(self, shape: torch.Size, channels_last: bool, images: int) -> _Plan:
        batch = shape[0]
        if images not in (1, batch) and batch % images:
            raise RuntimeError(
                f"The batch of the generated-filter layer '{self.name}' should be a multiple of the {images} "
                f'conditioning images, but got {batch}.'
            )
        repeats = 1 if images in (1, batch) else batch // images
        if repeats != 1 and self.folds is False:
            raise RuntimeError(
                f"The batch of the generated-filter layer '{self.name}' should hold one row per sample, as for the "
                f'input_size of the conversion, but holds {repeats}, in an order that is not known. Convert the '
                f'network with an input_size for which it has several, such as the one it is used with, or exclude the '
                f'layer.'
            )
        pad_arguments, conv = self._split_padding()
        size = tuple(shape[2:])
        if pad_arguments is not None:
            left, right, top, bottom = pad_arguments[0]
            size = (size[0] + top + bottom, size[1] + left + right)
        path = self._choose_path((*shape[:2], *size), channels_last, images, conv)
        return _Plan(path, conv, pad_arguments, repeats, channels_last)

    def _choose_path(self, shape: tuple[int, ...], channels_last: bool, images: int, conv: ConvArguments) -> str:
        if images == 1 and shape[0] != 1:
            return 'shared'
        if shape[0] == 0:
            # The only path without a convolution of as many groups as samples.
            return 'factored'
        if self.path != 'auto':
            return self.path
        if compute_paths.is_transformed():
            # A graph has to hold for all sizes, and 'materialised' would put the batch into the number of groups.
            return 'factored' if self.groups == 1 else 'unfolded'
        head = self.coefficient_head
        return cheapest_path(
            Workload(
                batch=shape[0],
                in_channels=shape[1],
                out_channels=self.out_channels,
                num_base_filters=self.num_base_filters,
                groups=conv.groups,
                kernel_area=math.prod(self.kernel_size),
                out_pixels=math.prod(compute_paths.output_size(shape[2:], self.kernel_size, conv)),
                rank=None if isinstance(head, FullHead) else len(head.right),
                in_pixels=math.prod(shape[2:]),
                training=torch.is_grad_enabled(),
                channels_last=channels_last,
            )
        )

    def _split_padding(self) -> tuple[tuple[list[int], str] | None, ConvArguments]:
        """Split the padding into what ``F.pad`` must do first and what the convolution does itself."""
        stride, dilation = _pair(self.stride), _pair(self.dilation)
        # Like nn.Conv2d, which fixes the widths of the other modes at construction.
        if self.padding_mode == 'zeros':
            mode, (left, right, top, bottom) = 'constant', self._zero_padding(dilation)
        else:
            mode, (left, right, top, bottom) = self.padding_mode, self._reversed_padding_repeated_twice
        if mode == 'constant' and left == right and top == bottom:
            return None, ConvArguments(stride, (top, left), dilation, self.groups)
        return ([left, right, top, bottom], mode), ConvArguments(stride, (0, 0), dilation, self.groups)

    def _zero_padding(self, dilation: tuple[int, int]) -> list[int]:
        """Return the columns left and right and the rows above and below."""
        if self.padding == 'valid':
            return [0, 0, 0, 0]
        if self.padding == 'same':
            totals = [step * (size - 1) for step, size in zip(dilation, self.kernel_size, strict=True)]
            return [part for total in reversed(totals) for part in (total // 2, total - total // 2)]
        rows, columns = _pair(self.padding)
        return [columns, columns, rows, rows]

    def extra_repr(self) -> str:
        """Describe the layer as ``nn.Conv2d`` does, and its filter repository."""
        return f'{super().extra_repr()}, num_base_filters={self.num_base_filters}, level={self.level}'


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Return a context in which the device of ``tensor`` computes in the precision of its tensors."""
    # The meta device knows no autocast.
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f'{name} should be an integer >= 1, but got {value}.')


def _pair(value: Any) -> tuple[int, int]:
    # Built as a pair, but a number that is assigned later is none.
    return (value, value) if isinstance(value, int) else tuple(value)


def _factorise(weight: Tensor, num_base_filters: int) -> tuple[Tensor, Tensor, float | None]:
    """Return base filters (m, ...) and coefficients (N, m) whose product best approximates the filters (N, ...).

    The base filters are the leading right singular vectors, at most ``num_base_filters`` of them. The last value is
    the part of the filters' squared norm that they keep, None without values (on the meta device).
    """
    if weight.is_meta:
        return weight[:num_base_filters], weight.new_empty(len(weight), num_base_filters), None
    left, singular_values, right = torch.linalg.svd(weight.double().flatten(1), full_matrices=False)
    right = right[:num_base_filters].to(weight.dtype)
    coefficients = (left * singular_values)[:, :num_base_filters].to(weight.dtype)
    energy = singular_values.square()
    kept = (energy[:num_base_filters].sum() / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)).item()
    return right.unflatten(1, weight.shape[1:]), coefficients, kept


def _is_shard(tensor: Any) -> bool:
    # A DTensor: importing its class takes long.
    return hasattr(tensor, 'device_mesh')
