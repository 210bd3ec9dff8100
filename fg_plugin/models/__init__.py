from .data_preprocessor import BatchDataPreprocessor
from .heads import HeatmapHead, LinearClsHead
from .heatmap_codec import GaussianHeatmapCodec, SoftmaxHeatmapCodec
from .image_classifier import ImageClassifier
from .landmark_detector import LandmarkDetector
from .task_model import TaskModel

__all__ = [
    'BatchDataPreprocessor',
    'GaussianHeatmapCodec',
    'HeatmapHead',
    'ImageClassifier',
    'LandmarkDetector',
    'LinearClsHead',
    'SoftmaxHeatmapCodec',
    'TaskModel',
]
