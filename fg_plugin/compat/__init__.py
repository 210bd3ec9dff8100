"""What MMEngine needs to run on today's PyTorch and without a GPU, one small shim a file.

Measured with mmengine 0.10.7 on torch 2.15. Every shim adds something under its own name and is harmless where MMEngine
does not need it (onedl-mmengine 0.10.12).

=================================  =====================================================================================
breakage                           shim
=================================  =====================================================================================
resuming: ``UnpicklingError``      :func:`~fg_plugin.compat.checkpoint_globals.allow_checkpoint_globals`
checkpoints that run code          :func:`~fg_plugin.compat.checkpoint_loader.restrict_checkpoint_loading`
torchrun without CUDA              :func:`~fg_plugin.compat.cpu_process_group.prepare_launch`
``--amp`` without CUDA             :class:`~fg_plugin.compat.cpu_amp.CPUAmpOptimWrapper`
half-written checkpoints           :class:`~fg_plugin.compat.atomic_local_backend.AtomicLocalBackend`
no ``pkg_resources``               the pin ``setuptools<82`` of the extras
``import`` in a config             ``Config.fromfile(path, lazy_import=False)``
``compile`` recompiles             refused in ``fg_plugin.launch``; ``CompileBackboneHook`` instead
``efficient_conv_bn_eval``         :func:`~fg_plugin.compat.conv_bn_eval.refuse_conv_bn_eval`
``Conv2dAdaptivePadding``          :func:`~fg_plugin.compat.adaptive_padding.allow_adaptive_padding`
untested versions                  :func:`~fg_plugin.compat.supported_versions.check_versions`
=================================  =====================================================================================
"""

from fg_plugin.compat.adaptive_padding import allow_adaptive_padding
from fg_plugin.compat.atomic_local_backend import AtomicLocalBackend
from fg_plugin.compat.checkpoint_globals import allow_checkpoint_globals
from fg_plugin.compat.checkpoint_loader import restrict_checkpoint_loading
from fg_plugin.compat.conv_bn_eval import refuse_conv_bn_eval
from fg_plugin.compat.cpu_amp import AMP_DTYPES, CPUAmpOptimWrapper, enable_amp
from fg_plugin.compat.cpu_process_group import explained_sync_batch_norm, prepare_launch
from fg_plugin.compat.supported_versions import check_versions, installed_versions

__all__ = [
    'AMP_DTYPES',
    'AtomicLocalBackend',
    'CPUAmpOptimWrapper',
    'allow_adaptive_padding',
    'allow_checkpoint_globals',
    'check_versions',
    'enable_amp',
    'explained_sync_batch_norm',
    'installed_versions',
    'prepare_launch',
    'refuse_conv_bn_eval',
    'restrict_checkpoint_loading',
]
