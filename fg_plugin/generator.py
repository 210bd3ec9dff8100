"""The image side of filter generation: autoencoder and neck, from images to codes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fg_plugin.layers import AEFeatureNeck, Autoencoder


class FilterGenerator(nn.Module):
    """Turn images into the codes that drive the generated filters, and keep the reconstruction loss.

    Args:
        autoencoder: The autoencoder; it needs a decoder exactly if ``reconstruction_weight`` > 0, so that no parameter
            is left without a gradient.
        neck: Reduces the encoder's feature maps to codes.
        image_size: Side of the square image that the autoencoder sees; other inputs are resized to it.
        reconstruction_weight: Factor of the reconstruction loss (1 in eq. 4).

    Raises:
        ValueError: For a negative weight, or a decoder that does not fit it.
    """

    def __init__(
        self, autoencoder: Autoencoder, neck: AEFeatureNeck, image_size: int, reconstruction_weight: float = 1.0
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
        self._pending_loss: Tensor | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return one code ``(B, L_f)`` per encoder level for images ``(B, C, H, W)`` in [0, 1].

        In training with a reconstruction weight, the reconstruction loss of these images is kept until
        ``reconstruction_loss`` takes it.

        Raises:
            ValueError: For a wrong number of channels; in training, for pixels outside [0, 1]; for a single image in
                training, which the batch normalisation over 1x1 maps cannot take.
        """
        self._check(images)
        if images.shape[2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            images = F.interpolate(images, size, mode='bilinear', antialias=True)
        features = self.autoencoder.encode(images)
        if self.training and self.reconstruction_weight > 0:
            logits = self.autoencoder.decode(features)
            loss = F.binary_cross_entropy_with_logits(logits.float(), images.float())
            self._pending_loss = self.reconstruction_weight * loss
        return self.neck(features)

    def _check(self, images: Tensor) -> None:
        if images.shape[1] != self.autoencoder.in_channels:
            raise ValueError(
                f'The autoencoder needs images of {self.autoencoder.in_channels} channels, but got '
                f'{images.shape[1]}: input of shape {tuple(images.shape)}.'
            )
        if not self.training:
            return
        if images.shape[0] == 1:
            raise ValueError(
                'A training batch should hold at least 2 images, because the neck normalises 1x1 maps over the batch, '
                'but got 1. Use drop_last=True in the data loader, or a larger batch.'
            )
        if self.reconstruction_weight > 0 and not torch.compiler.is_compiling():
            low, high = (value.item() for value in torch.aminmax(images.detach()))
            # Undoing a normalisation leaves rounding errors.
            if low < -1e-2 or high > 1 + 1e-2:
                raise ValueError(
                    f'The targets of the reconstruction loss (eq. 1) should be in [0, 1], but the images are in '
                    f"[{low:.3g}, {high:.3g}]. Give the host's normalisation as input_mean and input_std, or set "
                    f'reconstruction_weight=0.'
                )

    def take_reconstruction_loss(self) -> Tensor | None:
        """Return the weighted reconstruction loss (eq. 1) of the latest training forward once, then None."""
        loss, self._pending_loss = self._pending_loss, None
        return loss

    def __getstate__(self) -> dict:
        """Leave the pending loss out of copies and pickles: it belongs to one step's graph."""
        return {**self.__dict__, '_pending_loss': None}


def reconstruction_loss(model: nn.Module) -> Tensor | None:
    """Take the weighted reconstruction losses of the latest training forward of ``model`` and sum them.

    Returns:
        A scalar to add to the task loss (eq. 4), or None if nothing is pending: no generator inside, evaluation, weight
        0, or already taken.
    """
    losses = [
        loss
        for module in model.modules()
        if isinstance(module, FilterGenerator) and (loss := module.take_reconstruction_loss()) is not None
    ]
    return sum(losses[1:], losses[0]) if losses else None
