"""The image side of filter generation: autoencoder and neck, from images to codes."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fg_plugin.conditioning import current_conditioning
from fg_plugin.layers import AEFeatureNeck, Autoencoder
from fg_plugin.layers.filter_repo_conv import without_autocast

# What undoing a normalisation leaves outside [0, 1].
ROUNDING = 1e-2
# Random erasing replaces up to a third of an image by normal noise. Of images that are normalised when they should not
# be, about half is negative.
MAX_SHARE_OUTSIDE = 0.4
# Bright lines on black, in [0, 255], are mostly inside. No noise is as far outside as they are.
MAX_MEAN_EXCESS = 1.0


class FilterGenerator(nn.Module):
    """Turn images into the codes that drive the generated filters, and keep the reconstruction loss.

    Args:
        autoencoder: The autoencoder; it needs a decoder exactly if ``reconstruction_weight`` > 0, so that no parameter
            is left without a gradient.
        neck: Reduces the encoder's feature maps to codes.
        image_size: Side of the square image that the autoencoder sees; other inputs are resized to it.
        reconstruction_weight: Factor of the reconstruction loss (1 in eq. 4).
        input_mean: Mean that the input was normalised with, per channel, for pixels in [0, 1]; None if the input is in
            [0, 1] itself.
        input_std: Standard deviation, likewise.
        levels: The levels of the encoder that the neck takes, as many as it has; None for all.

    Raises:
        ValueError: For a negative weight, a decoder that does not fit it, only one of ``input_mean`` and ``input_std``,
            or a wrong number of their values.
    """

    input_mean: Tensor
    input_std: Tensor
    # Of a reconstruction loss that nothing takes.
    _has_warned = False

    def __init__(
        self,
        autoencoder: Autoencoder,
        neck: AEFeatureNeck,
        image_size: int,
        reconstruction_weight: float = 1.0,
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
        levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if reconstruction_weight < 0:
            raise ValueError(f'reconstruction_weight should be >= 0, but got {reconstruction_weight}.')
        if (autoencoder.decoder is not None) != (reconstruction_weight > 0):
            raise ValueError(
                f'autoencoder should have a decoder exactly if reconstruction_weight > 0, but got '
                f'reconstruction_weight={reconstruction_weight} and '
                f'{"no decoder" if autoencoder.decoder is None else "a decoder"}.'
            )
        self.autoencoder = autoencoder
        self.neck = neck
        self.image_size = image_size
        self.reconstruction_weight = reconstruction_weight
        self.levels = tuple(range(len(neck.code_dims)) if levels is None else levels)
        self._normalisation = _check_normalisation(input_mean, input_std, autoencoder.in_channels)
        # Not part of a checkpoint: they follow from how the host is used.
        for name in ('input_mean', 'input_std'):
            self.register_buffer(name, torch.empty(autoencoder.in_channels, 1, 1), persistent=False)
        self.reset_parameters()
        self.register_load_state_dict_post_hook(_refill)
        self._batch_normalised = any(isinstance(module, nn.BatchNorm2d) for module in self.modules())
        self._pending_loss: Tensor | None = None

    def reset_parameters(self) -> None:
        """Fill the buffers."""
        for buffer, values in zip((self.input_mean, self.input_std), self._normalisation, strict=True):
            if not buffer.is_meta:
                buffer.copy_(torch.tensor(values).view(-1, 1, 1))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'FilterGenerator':
        """Keep the buffers exact: they would stay rounded after a move to half precision and back."""
        super()._apply(fn, recurse)
        self.reset_parameters()
        return self

    def init_non_persistent_buffers(self) -> None:
        """Fill the buffers, under the name by which timm asks for it."""
        self.reset_parameters()

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return one code ``(B, L_f)`` per level of the neck for ``inputs`` (B, C, H, W), normalised as the host's are.

        In training with a reconstruction weight, the reconstruction loss of these images is kept until
        ``reconstruction_loss`` takes it. Its targets are the pixels in [0, 1]; the few that an augmentation such as
        timm's ``RandomErasing`` puts outside are clamped.

        Raises:
            ValueError: For a wrong number of channels; in training with a reconstruction loss, if so much is outside
                [0, 1] that the images must have been normalised in another way than ``input_mean`` and ``input_std``
                say; for a single image in training, which a batch normalisation over 1x1 maps cannot take.
            RuntimeError: If the network that it generates for runs it as one of its layers.
        """
        self._check_caller()
        if isinstance(inputs, fx.Proxy):
            # One node, also where a graph is traced anew.
            return inputs.tracer.create_proxy('call_module', inputs.tracer.path_of_module(self), (inputs,), {})
        self._check_shape(inputs)
        images = inputs * self.input_std + self.input_mean
        reconstructs = self.training and self.reconstruction_weight > 0
        # A graph of any size is to hold for this one, too.
        is_open = any(isinstance(side, torch.SymInt) for side in images.shape[2:])
        if is_open or images.shape[2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            # Processors cannot resize in half precision with antialias.
            wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
            images = F.interpolate(wide, size, mode='bilinear', antialias=True).to(images.dtype)
        if reconstructs:
            _check_range(images)
        features = self.autoencoder.encode(self._as_weights(images))
        if reconstructs:
            logits = self.autoencoder.decode(features)
            dtype = torch.promote_types(logits.dtype, torch.float32)
            loss = F.binary_cross_entropy_with_logits(logits.to(dtype), images.to(dtype).clamp(0, 1))
            if not _is_recomputing():
                self._warn_of_a_lost_loss()
                self._pending_loss = self.reconstruction_weight * loss
        return self.neck([features[level] for level in self.levels])

    def _as_weights(self, images: Tensor) -> Tensor:
        """Cast ``images`` to the dtype of the weights, as some networks do with their input."""
        conv: Any = self.autoencoder.encoder[0].conv
        dtype = conv.weight.dtype
        if images.dtype == dtype or torch.is_autocast_enabled(images.device.type):
            return images
        return images.to(dtype)

    @torch.no_grad()
    def mean_codes(self, batches: Iterable[Tensor]) -> list[Tensor]:
        """Return the mean code ``(1, L_f)`` of each level over the images of all batches, in evaluation mode.

        They are computed in the precision of the generator, also where autocast is on.

        Raises:
            TypeError: If a batch is no tensor.
            ValueError: If there is no image.
        """
        training = self.training
        self.eval()
        try:
            with without_autocast(self.input_mean):
                codes = [self(batch) for batch in map(_check_batch, batches) if len(batch)]
        finally:
            self.train(training)
        if not codes:
            raise ValueError('There should be at least one image to generate filters from, but got none.')
        return [torch.cat(level).mean(0, keepdim=True) for level in zip(*codes, strict=True)]

    def remove_decoder_(self) -> None:
        """Keep only what generates filters: without a decoder, there is no reconstruction loss."""
        self.autoencoder.decoder = None
        self.reconstruction_weight = 0.0

    def _warn_of_a_lost_loss(self) -> None:
        if torch.compiler.is_compiling() or self._has_warned or self._pending_loss is None:
            return
        # A forward for something else than a step, such as the statistics of a batch normalisation (update_bn).
        if not self._pending_loss.requires_grad:
            return
        self._has_warned = True
        warnings.warn(
            'Nothing has taken the reconstruction loss of the previous training forward, so that it does not train the '
            'decoder. Add fg_plugin.reconstruction_loss(model) to the loss or, in a config of OpenMMLab, '
            "dict(type='ReconstructionLossHook') to custom_hooks; without the loss, set reconstruction_weight=0. "
            'Several forwards before one backward use that of the last.',
            stacklevel=2,
        )

    def _check_caller(self) -> None:
        conditioning = current_conditioning()
        if conditioning is None or not conditioning.running or self not in conditioning.owner._modules.values():
            return
        raise RuntimeError(
            f'{type(conditioning.owner).__name__} should not run the generator as a layer of its own, as a forward '
            f'over self._modules does: use self.children() or the names of the layers.'
        )

    def _check_shape(self, inputs: Tensor) -> None:
        if inputs.ndim != 4 or inputs.shape[1] != self.autoencoder.in_channels:
            raise ValueError(
                f'The autoencoder needs images (B, C, H, W) of {self.autoencoder.in_channels} channels, but got an '
                f'input of shape {tuple(inputs.shape)}.'
            )
        if self.training and self._batch_normalised and inputs.shape[0] == 1:
            raise ValueError(
                'A training batch should hold at least 2 images, because the neck normalises 1x1 maps over the batch, '
                "but got 1. Use drop_last=True in the data loader, a larger batch, or norm='group' for autoencoder and "
                'neck.'
            )

    def keep_(self, positions: Sequence[int]) -> None:
        """Keep only the codes at these positions, and what computes them."""
        self.neck.keep_(positions)
        self.levels = tuple(self.levels[position] for position in positions)
        if self.autoencoder.decoder is None:
            self.autoencoder.keep_(self.levels[-1] + 1)

    def take_reconstruction_loss(self) -> Tensor | None:
        """Return the weighted reconstruction loss (eq. 1) of the latest training forward once, then None.

        Raises:
            RuntimeError: If gradients are wanted, but that forward computed none.
        """
        loss, self._pending_loss = self._pending_loss, None
        if loss is not None and not (self.training or loss.requires_grad):
            # Of a forward that was no step, such as those of update_bn, which need not be taken.
            return None
        trained = torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in self.autoencoder.parameters()
        )
        if loss is not None and trained and not loss.requires_grad:
            raise RuntimeError(
                'The reconstruction loss has no gradient, because its forward ran without: under torch.no_grad or in a '
                'checkpoint of the whole network, which should be called with use_reentrant=False.'
            )
        return loss

    def __getstate__(self) -> dict:
        """Leave the pending loss out of copies and pickles: it belongs to one step's graph."""
        return {**super().__getstate__(), '_pending_loss': None}


def _is_recomputing() -> bool:
    """Return whether this is a backward, where checkpoints compute a second time what the forward has computed."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _refill(generator: FilterGenerator, keys: Any) -> None:
    """After a checkpoint was loaded, which does not hold the buffers: fill them, where the parameters are now.

    They may be on the meta device still, or without values after ``to_empty``.
    """
    parameter = next(generator.parameters())
    if parameter.is_meta:
        return
    for name in ('input_mean', 'input_std'):
        buffer = getattr(generator, name)
        if (buffer.device, buffer.dtype) != (parameter.device, parameter.dtype):
            setattr(generator, name, torch.empty_like(buffer, device=parameter.device, dtype=parameter.dtype))
    generator.reset_parameters()


def _check_normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[list[float], list[float]]:
    if (mean is None) != (std is None):
        raise ValueError(
            f'input_mean and input_std should be given together, but got {mean} and {std}: the images of the '
            f'autoencoder are input * input_std + input_mean.'
        )
    checked = []
    for name, values, default in (('input_mean', mean, 0.0), ('input_std', std, 1.0)):
        filled = [default] * channels if values is None else [float(value) for value in values]
        if len(filled) != channels or max(filled) > 1:
            raise ValueError(
                f'{name} should hold {channels} values for pixels in [0, 1] (divide values for 0-255 by 255), but '
                f'got {filled}.'
            )
        checked.append(filled)
    return checked[0], checked[1]


def _check_batch(batch: Any) -> Tensor:
    if not isinstance(batch, Tensor):
        raise TypeError(
            f'Batches of images should be tensors (B, C, H, W), but got a {type(batch).__name__}. Of a data loader '
            f'with labels, give the images alone: (images for images, _ in loader).'
        )
    return batch


def _check_range(images: Tensor) -> None:
    # Inside of torch.func.vmap, a tensor does not tell its values.
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or images.is_meta:
        return
    images = images.detach()
    low, high = (value.item() for value in torch.aminmax(images))
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    excess = (images - images.clamp(0, 1)).abs()
    share = (excess > ROUNDING).float().mean().item()
    if share > MAX_SHARE_OUTSIDE or excess.mean().item() > MAX_MEAN_EXCESS:
        raise ValueError(
            f'The targets of the reconstruction loss (eq. 1) should be in [0, 1], but {share:.0%} of the pixels are '
            f'outside, in [{low:.3g}, {high:.3g}]: the images are normalised in another way than was said. Say how: '
            f'mean and std of fg_plugin.convert_, input_mean and input_std of FGBackboneWrapper. Networks of timm want '
            f'their own, see timm.data.resolve_model_data_config. Or set reconstruction_weight=0.'
        )


def pending_reconstruction_loss(model: nn.Module) -> Tensor | None:
    """Take the weighted reconstruction losses of the latest training forward of ``model`` and sum them.

    Returns:
        A scalar, or None if nothing is pending: no generator inside, evaluation, weight 0, or already taken.
    """
    total = None
    for module in model.modules():
        loss = module.take_reconstruction_loss() if isinstance(module, FilterGenerator) else None
        if loss is not None:
            total = loss if total is None else total + loss
    return total


def reconstruction_loss(model: nn.Module) -> Tensor:
    """Return the weighted reconstruction loss of the latest training forward, to add to the task loss (eq. 4).

    ``model`` may be wrapped (``DistributedDataParallel``, ``torch.compile``). A model without a reconstruction weight,
    or in evaluation mode, has a loss of zero, so that the same line serves every model.

    Raises:
        ValueError: If ``model`` generates no filters.
        RuntimeError: If ``model`` is in training and has a reconstruction weight, but no forward has been done
            since the loss was taken, or one without gradients.
    """
    generators = [module for module in model.modules() if isinstance(module, FilterGenerator)]
    if not generators:
        raise ValueError(
            f'The model should generate filters to have a reconstruction loss, but {type(model).__name__} was not '
            f'converted: use fg_plugin.convert_, timm.create_model("fg_...") or FGBackboneWrapper.'
        )
    pending = pending_reconstruction_loss(model)
    if pending is not None:
        return pending
    if any(generator.training and generator.reconstruction_weight > 0 for generator in generators):
        raise RuntimeError(
            'There is no reconstruction loss to take: it belongs to one training forward and can be taken once. Call '
            'the model on the batch first, then reconstruction_loss(model), once a step.'
        )
    # Of a buffer: fully_shard would make a zero of a parameter a distributed one.
    return generators[0].input_mean.new_zeros(())
