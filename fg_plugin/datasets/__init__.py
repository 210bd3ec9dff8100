"""Data sets held in memory and transforms of whole batches, registered in MMEngine's root registries."""

from fg_plugin.datasets.cifar10 import CIFAR10InMemory
from fg_plugin.datasets.digits import DigitsInMemory
from fg_plugin.datasets.in_memory import InMemoryDataset, batch_collate
from fg_plugin.datasets.mnist import MNISTInMemory
from fg_plugin.datasets.mtfl import MTFLLandmarks
from fg_plugin.datasets.rendered_faces import RenderedFaces
from fg_plugin.datasets.transforms import BatchRandomCrop, BatchRandomFlip

__all__ = [
    'BatchRandomCrop',
    'BatchRandomFlip',
    'CIFAR10InMemory',
    'DigitsInMemory',
    'InMemoryDataset',
    'MNISTInMemory',
    'MTFLLandmarks',
    'RenderedFaces',
    'batch_collate',
]
