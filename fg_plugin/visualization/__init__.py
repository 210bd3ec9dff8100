"""Drawing, without a Runner. Only ``fg_visualizer`` needs MMEngine."""

from fg_plugin.visualization.curves import draw_curves
from fg_plugin.visualization.figures import figure_to_array, save_figure
from fg_plugin.visualization.landmark_grid import LandmarkRow, draw_landmark_grid

__all__ = ['LandmarkRow', 'draw_curves', 'draw_landmark_grid', 'figure_to_array', 'save_figure']
