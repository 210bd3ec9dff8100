from fg_plugin.layers.ae_feature_neck import AEFeatureNeck
from fg_plugin.layers.autoencoder import Autoencoder
from fg_plugin.layers.filter_repo_conv import FilterRepoConv
from fg_plugin.layers.host_convs import layer_class

__all__ = ['AEFeatureNeck', 'Autoencoder', 'FilterRepoConv', 'layer_class']
