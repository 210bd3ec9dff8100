"""Sample-specific generated filters for the convolutional networks of timm and OpenMMLab."""

from fg_plugin.conv_selection import ConvRecord, NothingMatchedError
from fg_plugin.convert import convert_, freeze_, revert_
from fg_plugin.generator import FilterGenerator, reconstruction_loss
from fg_plugin.layers import AEFeatureNeck, Autoencoder, FilterRepoConv
from fg_plugin.parameter_groups import param_groups
from fg_plugin.report import Report, report
from fg_plugin.zoo import UnknownArchitectureError, register_zoo

__all__ = [
    'AEFeatureNeck',
    'Autoencoder',
    'ConvRecord',
    'FilterGenerator',
    'FilterRepoConv',
    'NothingMatchedError',
    'Report',
    'UnknownArchitectureError',
    'convert_',
    'freeze_',
    'param_groups',
    'reconstruction_loss',
    'report',
    'revert_',
]

register_zoo()
