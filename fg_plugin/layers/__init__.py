from fg_plugin.layers.ae_feature_neck import AEFeatureNeck
from fg_plugin.layers.autoencoder import Autoencoder
from fg_plugin.layers.filter_repo_conv import FilterRepoConv

__all__ = ['AEFeatureNeck', 'Autoencoder', 'FilterRepoConv']
