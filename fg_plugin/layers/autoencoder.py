"""The autoencoder that sees the image (section 3.1, Tables 5, 9 and 16)."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

from torch import Tensor, nn

from fg_plugin.layers.normalisation import normalisation
from fg_plugin.layers.upsampling_conv import UpsamplingConv2d

ACTIVATIONS = {'relu': nn.ReLU, 'lrelu': nn.LeakyReLU}


class Autoencoder(nn.Module):
    """Convolutional autoencoder built from a specification.

    Args:
        in_channels: Channels of the image.
        kernel_size: Odd kernel size of every convolution; the padding keeps the size at stride 1.
        encoder: ``(channels, stride)`` of each Conv+BN+activation of the encoder.
        decoder: Steps of the decoder: ``'up'`` is a nearest-neighbour upsampling by 2, an integer a Conv+BN+activation
            of that many channels; a plain convolution to the image's channels follows. None builds no decoder.
        encoder_act: ``'relu'`` or ``'lrelu'``.
        decoder_act: ``'relu'`` or ``'lrelu'``.
        norm: ``'batch'`` (the paper's) or ``'group'``, see ``normalisation``.

    Raises:
        ValueError: For an empty encoder, an even kernel, an unknown step, activation or normalisation, or a decoder
            that does not return to the size of the image.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int,
        encoder: Sequence[tuple[int, int]],
        decoder: Sequence[int | Literal['up']] | None,
        encoder_act: str = 'lrelu',
        decoder_act: str = 'relu',
        norm: str = 'batch',
    ) -> None:
        super().__init__()
        if not encoder:
            raise ValueError('encoder should hold at least one (channels, stride), but got none.')
        for level in encoder:
            if not (isinstance(level, Sequence) and len(level) == 2 and all(map(_is_size, level))):
                raise ValueError(f'encoder should hold pairs (channels, stride) of integers >= 1, but got {level!r}.')
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size should be odd, so that stride 1 keeps the size, but got {kernel_size}.')
        for argument, act in (('encoder_act', encoder_act), ('decoder_act', decoder_act)):
            if act not in ACTIVATIONS:
                raise ValueError(f'{argument} should be one of {tuple(ACTIVATIONS)}, but got {act!r}.')
        self.in_channels = in_channels
        self.channels = tuple(channels for channels, _ in encoder)
        self.strides = tuple(stride for _, stride in encoder)
        self.encoder = nn.ModuleList()
        channels = in_channels
        for out_channels, stride in encoder:
            conv = nn.Conv2d(channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
            self.encoder.append(_with_norm(conv, norm))
            channels = out_channels
        self.encoder_act = ACTIVATIONS[encoder_act]()
        self.decoder = None if decoder is None else self._build_decoder(decoder, kernel_size, decoder_act, norm)

    def _build_decoder(
        self, steps: Sequence[int | Literal['up']], kernel_size: int, act: str, norm: str
    ) -> nn.Sequential:
        if any(step != 'up' and not isinstance(step, int) for step in steps):
            raise ValueError(f"decoder should hold 'up' and channel counts, but got {tuple(steps)}.")
        shrinking, growing = math.prod(self.strides), 2 ** sum(step == 'up' for step in steps)
        if shrinking != growing:
            raise ValueError(
                f"decoder should upsample by the encoder's total stride {shrinking}, but its 'up' steps give {growing}."
            )
        layers: list[nn.Module] = []
        channels = self.channels[-1]
        upsampled = False
        for step in steps:
            if isinstance(step, int):
                conv = _decoder_conv(channels, step, kernel_size, upsampled, bias=False)
                layers += [_with_norm(conv, norm), ACTIVATIONS[act]()]
                channels = step
            elif upsampled:
                layers.append(nn.Upsample(scale_factor=2, mode='nearest'))
            upsampled = step == 'up'
        layers.append(_decoder_conv(channels, self.in_channels, kernel_size, upsampled, bias=True))
        return nn.Sequential(*layers)

    def feature_sizes(self, image_size: int) -> tuple[int, ...]:
        """Return the side of each encoder level's feature map for a square image of side ``image_size``.

        Raises:
            ValueError: If the decoder would not return to ``image_size``.
        """
        shrinking = math.prod(self.strides)
        if self.decoder is not None and (image_size < 1 or image_size % shrinking):
            fitting = max(1, -(-image_size // shrinking)) * shrinking
            raise ValueError(
                f"image_size should be a multiple of {shrinking}, the encoder's total stride, so that the decoder "
                f'returns to it, but got {image_size}. {fitting} would work.'
            )
        sizes = []
        for stride in self.strides:
            image_size = -(-image_size // stride)
            sizes.append(image_size)
        return tuple(sizes)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return each encoder level's feature map before its activation (Appendix A.1).

        Args:
            images: ``(B, C, H, W)`` in [0, 1].
        """
        features = []
        for layer in self.encoder:
            images = layer(images)
            features.append(images)
            images = self.encoder_act(images)
        return features

    def keep_(self, num_levels: int) -> None:
        """Keep only the first levels of the encoder.

        Raises:
            RuntimeError: If there is a decoder, which goes on from the last one.
        """
        if self.decoder is not None:
            raise RuntimeError('The encoder of an autoencoder with a decoder should keep all its levels.')
        self.channels, self.strides = self.channels[:num_levels], self.strides[:num_levels]
        self.encoder = self.encoder[:num_levels]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return the logits of the reconstructed image ``(B, C, H, W)`` from the features of ``encode``.

        Raises:
            RuntimeError: If the autoencoder was built without a decoder.
        """
        if self.decoder is None:
            raise RuntimeError('The autoencoder was built without a decoder (decoder=None) and cannot reconstruct.')
        return self.decoder(self.encoder_act(features[-1]))


def _is_size(value: Any) -> bool:
    return isinstance(value, Integral) and int(value) >= 1


def _decoder_conv(in_channels: int, out_channels: int, kernel_size: int, upsampled: bool, bias: bool) -> nn.Conv2d:
    if upsampled:
        return UpsamplingConv2d(in_channels, out_channels, kernel_size, bias=bias)
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def _with_norm(conv: nn.Conv2d, norm: str) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=conv, norm=normalisation(norm, conv.out_channels)))
