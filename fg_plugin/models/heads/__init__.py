from .heatmap_head import HeatmapHead
from .linear_cls_head import LinearClsHead

__all__ = ['HeatmapHead', 'LinearClsHead']
