"""Sample-specific generated filters for the convolutional networks of timm and OpenMMLab."""

from fg_plugin.convert import ConvRecord, NothingMatchedError, convert_, revert_
from fg_plugin.generator import FilterGenerator, reconstruction_loss
from fg_plugin.layers import AEFeatureNeck, Autoencoder, FilterRepoConv

__all__ = [
    'AEFeatureNeck',
    'Autoencoder',
    'ConvRecord',
    'FilterGenerator',
    'FilterRepoConv',
    'NothingMatchedError',
    'convert_',
    'reconstruction_loss',
    'revert_',
]
