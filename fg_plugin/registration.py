"""Registers every component in MMEngine's root registries, where all downstream scopes find it, and applies the shims.

Configs say ``custom_imports = dict(imports=['fg_plugin.registration'])``.
"""

try:
    import mmengine  # noqa: F401, I001
    import mmcv  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ('mmcv', 'mmengine'):
        raise
    raise ModuleNotFoundError(
        f'configs and tools need MMEngine and mmcv, but {error.name} is not installed. Install exactly one of the two '
        'families: '
        "pip install 'fg-plugin[mm]' (mmengine, mmcv-lite) or pip install 'fg-plugin[onedl]' (the maintained forks); "
        'installed together they overwrite each other. The timm half of fg_plugin works without either',
        name=error.name,
    ) from error

from mmengine.registry import MODELS

import fg_plugin.datasets
import fg_plugin.hooks
import fg_plugin.metrics
import fg_plugin.models
import fg_plugin.visualization.fg_visualizer
import fg_plugin.wrapper  # noqa: F401
from fg_plugin.compat import (
    allow_adaptive_padding,
    allow_checkpoint_globals,
    check_versions,
    installed_versions,
    refuse_conv_bn_eval,
    restrict_checkpoint_loading,
)
from fg_plugin.layers import AEFeatureNeck, Autoencoder, FilterRepoConv

# The layers know nothing of MMEngine, so they are registered here. mmcv's build_conv_layer looks into the same
# registry: conv_cfg=dict(type='FilterRepoConv').
for layer in (AEFeatureNeck, Autoencoder, FilterRepoConv):
    MODELS.register_module(module=layer)

check_versions(installed_versions())
allow_checkpoint_globals()
restrict_checkpoint_loading()
allow_adaptive_padding()
refuse_conv_bn_eval()
