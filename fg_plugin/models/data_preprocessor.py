"""Batches of 8-bit images to normalised float batches on the model's device."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class BatchDataPreprocessor(BaseDataPreprocessor):
    """Moves a whole batch to the device and scales its pixels to [0, 1].

    The images travel as uint8, a quarter of the bytes, and become float on the device. A floating-point batch is
    taken to be in [0, 1] already.

    Args:
        channels: Number of channels the network takes; ``None`` leaves it unchecked.
        image_size: ``(height, width)``, or one number for both, that the network was built for; ``None`` leaves it
            unchecked.
        mean: Mean of each channel, or one for all, for pixels in [0, 1]; subtracted after scaling.
        std: Standard deviation of each channel, or one for all, for pixels in [0, 1]; divided by after scaling.
        non_blocking: Whether to copy to the device asynchronously.

    Raises:
        ValueError: If ``mean`` and ``std`` fit neither each other nor ``channels``, or are for pixels of another range.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        channels: int | None = None,
        image_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if (mean is None) != (std is None):
            raise ValueError(f'mean and std should be given together, but got mean={mean} and std={std}')
        # How many channels they are for, where they are not the same for all.
        self._normalised = None if mean is None or std is None else _number_of_channels(mean, std, channels)
        self.channels = channels
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.register_buffer('mean', None if mean is None else torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', None if std is None else torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Checks, moves and scales a batch.

        Args:
            data: ``dict(inputs=(B, C, H, W) images, data_samples=...)``; other keys are passed on.
            training: Unused; augmentation belongs to the data set.

        Returns:
            The same dict on the device, with float ``inputs``.

        Raises:
            TypeError: If ``inputs`` is not one tensor for the whole batch, or its values are neither of 8 bits nor
                floating-point numbers.
            ValueError: If the channel count or the image size is not what the network takes.
        """
        inputs = data.get('inputs')
        if not isinstance(inputs, Tensor) or inputs.ndim != 4:
            got = f'a tensor of shape {tuple(inputs.shape)}' if isinstance(inputs, Tensor) else type(inputs).__name__
            raise TypeError(
                f"data['inputs'] should be one tensor (B, C, H, W) for the whole batch, but got {got}; "
                "set collate_fn=dict(type='batch_collate') or 'default_collate' in the dataloader"
            )
        if inputs.dtype != torch.uint8 and not inputs.is_floating_point():
            raise TypeError(
                f"data['inputs'] should be of type uint8 (0 to 255) or floating point (0 to 1), but got {inputs.dtype}"
            )
        self._check(inputs)
        cast: dict = super().forward(data, training)
        images = cast['inputs']
        images = images.float().div_(255) if images.dtype == torch.uint8 else images.to(torch.get_default_dtype())
        if self.mean is not None:
            images = (images - self.mean) / self.std
        return {**cast, 'inputs': images}

    def _check(self, inputs: Tensor) -> None:
        channels, size = inputs.shape[1], tuple(inputs.shape[2:])
        if self.channels is not None and channels != self.channels:
            raise ValueError(
                f'images should have {self.channels} channel(s), as the network takes, but got {channels}; convert the '
                'images, or change in_channels of the network together with channels of the data_preprocessor'
            )
        if self._normalised not in (None, 1, channels):
            raise ValueError(
                f'images should have the {self._normalised} channels that mean and std are for, but got {channels}'
            )
        if self.image_size is not None and size != tuple(self.image_size):
            height, width = self.image_size
            raise ValueError(
                f'images should be {height}x{width} pixels, the size the network was built for, but got '
                f'{size[0]}x{size[1]}; resize them to {height}x{width}'
            )


def _number_of_channels(mean: Sequence[float], std: Sequence[float], channels: int | None) -> int:
    for name, values in (('mean', mean), ('std', std)):
        if not isinstance(values, Sequence):
            raise ValueError(f'{name} should be a list of values, 1 or one for each channel, but got {values!r}')
        if channels is not None and len(values) not in (1, channels):
            raise ValueError(f'{name} should have 1 or channels={channels} values, but got {len(values)}')
    number = max(len(mean), len(std))
    if not {len(mean), len(std)} <= {1, number}:
        raise ValueError(f'mean and std should be for as many channels, but got {len(mean)} and {len(std)} values')
    if min(std) <= 0:
        raise ValueError(f'std should be positive, but got {tuple(std)}')
    if min(mean) < 0 or max(*mean, *std) > 1:
        raise ValueError(
            f'mean and std should be for pixels in [0, 1], but got mean={tuple(mean)} and std={tuple(std)}: divide '
            'those for pixels up to 255 by 255'
        )
    return number
