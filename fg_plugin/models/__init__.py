from fg_plugin.models.adaptive_unet import CondConvUNet, InputCodesUNet, SEUNet, StemCodesUNet
from fg_plugin.models.cifar_net import CIFARNet
from fg_plugin.models.data_preprocessor import BatchDataPreprocessor
from fg_plugin.models.heads import HeatmapHead, LinearClsHead
from fg_plugin.models.heatmap_codec import GaussianHeatmapCodec, SoftmaxHeatmapCodec
from fg_plugin.models.image_classifier import ImageClassifier
from fg_plugin.models.landmark_detector import LandmarkDetector
from fg_plugin.models.mnist_net import MNISTNet
from fg_plugin.models.task_model import TaskModel
from fg_plugin.models.unet import UNet
from fg_plugin.models.vgg import VGG11

__all__ = [
    'VGG11',
    'BatchDataPreprocessor',
    'CIFARNet',
    'CondConvUNet',
    'GaussianHeatmapCodec',
    'HeatmapHead',
    'ImageClassifier',
    'InputCodesUNet',
    'LandmarkDetector',
    'LinearClsHead',
    'MNISTNet',
    'SEUNet',
    'SoftmaxHeatmapCodec',
    'StemCodesUNet',
    'TaskModel',
    'UNet',
]
