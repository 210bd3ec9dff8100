"""The convolutions that the layer benchmark measures."""

from typing import NamedTuple


class Geometry(NamedTuple):
    """A convolution with 'same'-like padding, without bias, on a square input.

    Attributes:
        name: What it stands for.
        in_channels: Input channels C.
        out_channels: Filters N.
        kernel_size: Side of the kernel.
        stride: Stride.
        groups: Groups.
        size: Side of the input in pixels.
        padding: None means ``kernel_size // 2``.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int
    size: int
    padding: int | None = None

    def describe(self) -> str:
        """Return the geometry in one line, such as ``64>128 3x3 /2 g4 @56``."""
        stride = f' /{self.stride}' if self.stride > 1 else ''
        groups = f' g{self.groups}' if self.groups > 1 else ''
        kernel = f'{self.kernel_size}x{self.kernel_size}'
        return f'{self.in_channels}>{self.out_channels} {kernel}{stride}{groups} @{self.size}'


class Setting(NamedTuple):
    """A geometry with what else its speed depends on."""

    geometry: Geometry
    batch: int
    channels_last: bool

    def describe(self) -> str:
        """Return the setting in one line."""
        memory_format = 'channels_last' if self.channels_last else 'contiguous'
        return f'{self.geometry.name} {self.geometry.describe()} B={self.batch} {memory_format}'


GEOMETRIES = (
    Geometry('ResNet stage 1', 64, 64, 3, 1, 1, 56),
    Geometry('ResNet stage 3', 256, 256, 3, 1, 1, 14),
    Geometry('ResNet stage 4', 512, 512, 3, 1, 1, 7),
    Geometry('ResNet downsampling', 128, 256, 3, 2, 1, 28),
    Geometry('ResNet stem', 3, 64, 7, 2, 1, 112),
    Geometry('bottleneck expand', 64, 256, 1, 1, 1, 28),
    Geometry('bottleneck expand', 128, 512, 1, 1, 1, 14),
    Geometry('bottleneck project', 256, 64, 1, 1, 1, 28),
    Geometry('bottleneck project', 512, 128, 1, 1, 1, 14),
    Geometry('mobile expand', 24, 144, 1, 1, 1, 28),
    Geometry('mobile project', 144, 24, 1, 1, 1, 28),
    Geometry('depthwise', 144, 144, 3, 1, 144, 28),
    Geometry('depthwise', 384, 384, 3, 1, 384, 14),
    Geometry('depthwise', 240, 240, 5, 2, 240, 14),
    Geometry('depthwise', 672, 672, 5, 1, 672, 7),
    Geometry('ResNeXt', 128, 128, 3, 1, 32, 28),
    Geometry('grouped', 256, 256, 3, 1, 8, 14),
    Geometry('MNIST conv1 (Table 4)', 1, 5, 5, 1, 1, 28, padding=0),
    Geometry('MNIST conv2 (Table 4)', 5, 5, 5, 1, 1, 12, padding=0),
    Geometry('CIFAR conv1 (Table 15)', 3, 64, 3, 1, 1, 32),
    Geometry('CIFAR conv2 (Table 15)', 64, 128, 3, 2, 1, 32),
    Geometry('CIFAR conv3 (Table 15)', 128, 256, 3, 2, 1, 16),
    Geometry('CIFAR conv4 (Table 15)', 256, 256, 3, 2, 1, 8),
    Geometry('UNet first (Table 8)', 3, 32, 3, 1, 1, 64),
    Geometry('UNet down (Table 8)', 32, 32, 3, 2, 1, 64),
    Geometry('UNet up (Table 8)', 64, 32, 3, 1, 1, 8),
    Geometry('UNet up (Table 8)', 64, 32, 3, 1, 1, 64),
)

BATCHES = (1, 16)


def settings() -> list[Setting]:
    """Return every geometry at every batch size in both memory formats."""
    return [
        Setting(geometry, batch, channels_last)
        for geometry in GEOMETRIES
        for batch in BATCHES
        for channels_last in (False, True)
    ]
