"""Trained models on image files: load one by its config or timm name, and predict."""

from fg_plugin.inference.image_files import UnreadableImageError, list_images, read_image
from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.loading import load_model
from fg_plugin.inference.predictions import ClassPrediction, LandmarkPrediction, SegmentationPrediction
from fg_plugin.inference.predictor import FailedImage, PredictedImage, predict_files

__all__ = [
    'ClassPrediction',
    'FailedImage',
    'LandmarkPrediction',
    'LoadedModel',
    'PredictedImage',
    'SegmentationPrediction',
    'UnreadableImageError',
    'list_images',
    'load_model',
    'predict_files',
    'read_image',
]
