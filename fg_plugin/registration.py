"""Registers every component in MMEngine's root registries, where all downstream scopes find it, and applies the shims.

Configs say ``custom_imports = dict(imports=['fg_plugin.registration'])``.
"""

try:
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise
    raise ModuleNotFoundError(
        'configs and tools need MMEngine, which is not installed. Install exactly one of the two families: '
        "pip install 'fg-plugin[mm]' (mmengine, mmcv-lite) or pip install 'fg-plugin[onedl]' (the maintained forks); "
        'installed together they overwrite each other. The timm half of fg_plugin works without either',
        name='mmengine',
    ) from error

import importlib
import os
import pkgutil

from mmengine.registry import MODELS

from fg_plugin.compat import allow_checkpoint_globals

_names = ['models', 'wrapper', 'datasets', 'metrics', 'hooks', 'visualization']
_names += [f'datasets.{module.name}' for module in pkgutil.iter_modules([f'{os.path.dirname(__file__)}/datasets'])]
for _name in _names:
    try:
        importlib.import_module(f'fg_plugin.{_name}')
    except ImportError as _error:
        print(f'fg_plugin.{_name}: {_error}')

from fg_plugin.layers import AEFeatureNeck, Autoencoder, FilterRepoConv

# The layers stay free of MMEngine, so they are registered here. mmcv's build_conv_layer looks into the same registry:
# conv_cfg=dict(type='FilterRepoConv').
for _layer in (AEFeatureNeck, Autoencoder, FilterRepoConv):
    MODELS.register_module(module=_layer)

allow_checkpoint_globals()
