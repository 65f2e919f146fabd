"""Is a quantity higher in the cells of a class than in other cells? Contrasts with a permutation null."""

from typing import NamedTuple

import numpy as np

SMALLEST_SPREAD = 1e-12


class Contrast(NamedTuple):
    """Each class (C) against the others, per feature (F).

    Attributes
    ----------
    mean_CF
        Mean over the cells of the class.
    difference_CF
        Mean of the class less the mean of the other cells, after each stratum was centred.
    z_CF
        The difference in units of its standard deviation under permutation (exact, not sampled); 0 if that is zero.
    p_CF
        One-sided. Share of permutations, the observed labels among them, with as large a difference; where none has,
        the share among the z of all features in all permutations, which is a finer measure of how rare that is.
    """

    mean_CF: np.ndarray
    difference_CF: np.ndarray
    z_CF: np.ndarray
    p_CF: np.ndarray


def contrast_classes(
    values_BF: np.ndarray, class_B: np.ndarray, stratum_B: np.ndarray, n_classes: int, n_permutations: int, seed: int
) -> Contrast:
    """Compare each class with all others; labels are exchanged within strata alone.

    Cells of one stratum (here a fold) were explained by the same model, those of two strata were not: only within one
    are labels exchangeable if classes do not differ.

    Parameters
    ----------
    values_BF
        Cells x features.
    class_B, stratum_B
        Class index and stratum of each cell.
    n_classes
        Classes C; of one without cells, or without others, every p is 1.
    n_permutations
        Permutations; 0 gives no p-values (all 1).
    seed
        Seed of the permutations.
    """
    # In a fixed order whatever the order of strata names, so that the same cells give the same bytes.
    strata = [np.flatnonzero(stratum_B == name) for name in np.unique(stratum_B)]
    centred_BF = np.asarray(values_BF, dtype=np.float32).copy()
    for rows in strata:
        centred_BF[rows] -= centred_BF[rows].mean(0)
    weight_CB = _weights(class_B, n_classes)
    observed_CF = weight_CB @ centred_BF
    # Of a sum of weights times values under permutation: squares of the weights times variance of the values.
    variance_CF = np.zeros_like(observed_CF)
    for rows in strata:
        squares_C = weight_CB[:, rows].var(1) * len(rows)
        variance_CF += squares_C[:, None] * centred_BF[rows].var(0, ddof=min(1, len(rows) - 1))
    spread_CF = np.sqrt(variance_CF)
    z_CF = np.divide(observed_CF, spread_CF, out=np.zeros_like(observed_CF), where=spread_CF > SMALLEST_SPREAD)
    p_CF = _p_values(centred_BF, class_B, strata, observed_CF, spread_CF, n_permutations, seed)
    p_CF[np.abs(weight_CB).sum(1) == 0] = 1.0
    is_member_CB = class_B == np.arange(n_classes)[:, None]
    mean_CF = is_member_CB @ values_BF / np.maximum(is_member_CB.sum(1), 1)[:, None]
    return Contrast(mean_CF, observed_CF, z_CF, p_CF)


def _p_values(centred_BF, class_B, strata, observed_CF, spread_CF, n_permutations, seed) -> np.ndarray:
    """See `Contrast`; all 1 without permutations."""
    rng, n_classes = np.random.default_rng(seed), len(observed_CF)
    varies_CF = spread_CF > SMALLEST_SPREAD
    per_spread_CF = np.divide(1, spread_CF, out=np.zeros_like(spread_CF), where=varies_CF)
    # Rounding must not turn a tie into a difference.
    bar_CF = observed_CF * per_spread_CF - 1e-4
    alone_CF, pooled_CF = (np.zeros(observed_CF.shape, dtype=np.int64) for _ in range(2))
    for _ in range(n_permutations):
        permuted_B = class_B.copy()
        for rows in strata:
            permuted_B[rows] = class_B[rng.permutation(rows)]
        drawn_CF = (_weights(permuted_B, n_classes) @ centred_BF) * per_spread_CF
        alone_CF += drawn_CF >= bar_CF
        for c in range(n_classes):
            null = np.sort(drawn_CF[c, varies_CF[c]])
            pooled_CF[c] += len(null) - np.searchsorted(null, bar_CF[c])
    n_pooled_C1 = varies_CF.sum(1, keepdims=True) * n_permutations
    p_pooled_CF = np.minimum((1 + pooled_CF) / (1 + n_pooled_C1), 1 / (1 + n_permutations))
    p_CF = np.where(alone_CF > 0, (1 + alone_CF) / (1 + n_permutations), p_pooled_CF)
    return np.where(varies_CF, p_CF, 1.0)


def _weights(class_B: np.ndarray, n_classes: int) -> np.ndarray:
    """Rows that take the mean of a class less the mean of the others; zero for a class that has no cell or all."""
    member_CB = class_B == np.arange(n_classes)[:, None]
    size_C1 = member_CB.sum(1, keepdims=True)
    rest_C1 = len(class_B) - size_C1
    weight_CB = np.where(member_CB, 1 / np.maximum(size_C1, 1), -1 / np.maximum(rest_C1, 1))
    return (weight_CB * ((size_C1 > 0) & (rest_C1 > 0))).astype(np.float32)
