"""How much each class counts in a loss."""

import numpy as np


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Weight classes by the inverse square root of their size, with mean 1 over cells.

    Half way (in the logarithm) between weighting cells and weighting classes: rare classes are learned without
    calling too many common cells rare.

    Parameters
    ----------
    counts
        (C,) cells of each class; a class without cells gets weight 0.

    Returns
    -------
    numpy.ndarray
        (C,) weights.
    """
    counts = np.asarray(counts, dtype=float)
    weights = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0.0)
    return weights * counts.sum() / (weights * counts).sum()
