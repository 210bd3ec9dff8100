from .cifar_net import CIFARNet
from .data_preprocessor import BatchDataPreprocessor
from .heads import HeatmapHead, LinearClsHead
from .heatmap_codec import GaussianHeatmapCodec, SoftmaxHeatmapCodec
from .image_classifier import ImageClassifier
from .landmark_detector import LandmarkDetector
from .mnist_net import MNISTNet
from .task_model import TaskModel
from .unet import UNet
from .vgg import VGG11

__all__ = [
    'VGG11',
    'BatchDataPreprocessor',
    'CIFARNet',
    'GaussianHeatmapCodec',
    'HeatmapHead',
    'ImageClassifier',
    'LandmarkDetector',
    'LinearClsHead',
    'MNISTNet',
    'SoftmaxHeatmapCodec',
    'TaskModel',
    'UNet',
]
