from fg_plugin.models.heads.heatmap_head import HeatmapHead
from fg_plugin.models.heads.linear_cls_head import LinearClsHead

__all__ = ['HeatmapHead', 'LinearClsHead']
