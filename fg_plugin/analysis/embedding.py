"""Two-dimensional pictures of many vectors (Figure 5)."""

import numpy as np
from torch import Tensor

from fg_plugin.analysis.coordinates import principal_coordinates

# t-SNE finds neighbours in this many principal components, as its authors do.
_DIMENSIONS = 50
_PERPLEXITY = 30

MIN_SAMPLES = 5


def embed(features: Tensor, seed: int) -> np.ndarray | None:
    """Project ``features`` (N, F) into the plane by t-SNE, after a principal component analysis.

    Returns:
        Points ``(N, 2)``, or None if the features are the same for all samples.
    """
    # scikit-learn takes a second to import.
    from sklearn.manifold import TSNE

    points = principal_coordinates(features, _DIMENSIONS)
    scale = points.std().item()
    if not scale > 1e-6 * features.double().square().mean().sqrt().item():
        return None
    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init='pca', random_state=seed).fit_transform((points / scale).float().numpy())
