"""How much the coefficients and filters of each layer vary from sample to sample: a detector of collapse."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fg_plugin.analysis.coordinates import coefficient_coordinates, filter_coordinates, mean_square, variance
from fg_plugin.layers import FilterRepoConv

# Of the variance to the mean square. The root of it is the size of a sample's own part relative to the whole: below one
# hundredth, the filters of all samples are the same for practical purposes: with the codes of a trained classifier of
# digits scaled towards their mean so far, the filters of another image change 1 prediction in 40 (unscaled: 31 in 40).
COLLAPSE_THRESHOLD = 1e-4


def variation(layers: Mapping[str, FilterRepoConv], codes: Sequence[Tensor]) -> dict[str, dict[str, Any]]:
    """Return, by layer, the variance over samples relative to the mean square.

    Args:
        layers: The layers.
        codes: One ``(N, L_f)`` per level.

    Returns:
        ``coefficients`` and ``filters``, the ratios; ``collapsed``, whether that of the coefficients is below
        ``COLLAPSE_THRESHOLD``.
    """
    report: dict[str, dict[str, Any]] = {}
    for name, layer in layers.items():
        code = codes[layer.level]
        coefficients, filters = coefficient_coordinates(layer, code), filter_coordinates(layer, code)
        ratio = variance(coefficients) / max(mean_square(layer, code, coefficients), 1e-300)
        report[name] = {
            'coefficients': ratio,
            'filters': variance(filters) / max(mean_square(layer, code, filters, of_filters=True), 1e-300),
            'collapsed': ratio < COLLAPSE_THRESHOLD,
        }
    return report
