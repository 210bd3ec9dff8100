"""Lets ``torch.load(weights_only=True)`` read what MMEngine's Runner saves.

Since torch 2.6 ``torch.load`` refuses every class that is not allowed by name, and mmengine 0.10.7 saves the history of
its logs beside the weights: ``--resume`` and ``load_from`` end in an ``UnpicklingError``. onedl-mmengine 0.10.12 allows
nearly the same names during its own loads and forgets them afterwards, also those allowed here; where it meets another
name it loads without any restriction. The names it lacks are allowed here, so its Runner keeps to the restricted way.
"""

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_STATISTICS = ('min', 'max', 'current', 'mean')
_DTYPES = ('bool', 'uint8', 'int8', 'int16', 'int32', 'int64', 'float16', 'float32', 'float64')


def history_buffer_statistic(owner: Any, name: str) -> Callable:
    """Stand in for the builtin ``getattr`` of a pickle: only the statistics of ``HistoryBuffer`` are found.

    MMEngine pickles these methods as ``getattr(HistoryBuffer, 'mean')``. The builtin itself would hand any attribute
    of any allowed object to a hostile file.

    Raises:
        UnpicklingError: If the pickle asks for anything else.
    """
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(
            f'a checkpoint should ask only for {", ".join(_STATISTICS)} of HistoryBuffer, but it asks for {name!r} of '
            f'{owner!r}: the file was not written by MMEngine, or it holds statistics registered by other code'
        )
    return getattr(HistoryBuffer, name)


def allow_checkpoint_globals() -> None:
    """Allow, by name, the classes of a Runner's checkpoint in ``torch.load(weights_only=True)``.

    Only plain numeric arrays are allowed; calling it again changes nothing.
    """
    values: tuple[Any, ...] = (np.ndarray(0), np.float64(0))
    array, scalar = (value.__reduce__()[0] for value in values)
    # NumPy 2 renamed the module, and a checkpoint names the one of the NumPy that wrote it.
    modules = ('numpy.core.multiarray', 'numpy._core.multiarray')
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (history_buffer_statistic, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *(type(np.dtype(name)) for name in _DTYPES),
            *((array, f'{module}._reconstruct') for module in modules),
            *((scalar, f'{module}.scalar') for module in modules),
        ]
    )
