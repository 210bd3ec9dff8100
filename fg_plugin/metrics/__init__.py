from .accuracy import Accuracy
from .normalized_mean_error import NormalizedMeanError

__all__ = ['Accuracy', 'NormalizedMeanError']
