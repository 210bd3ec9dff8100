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
        mean: Per-channel mean in [0, 1] units, subtracted after scaling.
        std: Per-channel standard deviation in [0, 1] units, divided by after scaling.
        non_blocking: Whether to copy to the device asynchronously.
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
        for name, values in (('mean', mean), ('std', std)):
            if values is not None and channels is not None and len(values) not in (1, channels):
                raise ValueError(f'{name} should have 1 or channels={channels} values, but got {len(values)}')
        if std is not None and min(std) <= 0:
            raise ValueError(f'std should be positive, but got {tuple(std)}')
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
            TypeError: If ``inputs`` is not one tensor for the whole batch.
            ValueError: If the channel count or the image size is not what the network takes.
        """
        inputs = data.get('inputs')
        if not isinstance(inputs, Tensor) or inputs.ndim != 4:
            got = f'a tensor of shape {tuple(inputs.shape)}' if isinstance(inputs, Tensor) else type(inputs).__name__
            raise TypeError(
                f"data['inputs'] should be one tensor (B, C, H, W) for the whole batch, but got {got}; "
                "set collate_fn=dict(type='batch_collate') or 'default_collate' in the dataloader"
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
        if self.image_size is not None and size != tuple(self.image_size):
            height, width = self.image_size
            raise ValueError(
                f'images should be {height}x{width} pixels, the size the network was built for, but got '
                f'{size[0]}x{size[1]}; resize them to {height}x{width}'
            )
