from fg_plugin.metrics.accuracy import Accuracy
from fg_plugin.metrics.normalized_mean_error import NormalizedMeanError

__all__ = ['Accuracy', 'NormalizedMeanError']
