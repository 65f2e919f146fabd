"""Two groups: the probability that a pair is real, from what supports it and how strongly its members go together."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.isotonic import isotonic_regression

# Bins of the null's upper tail: twentieths down to 0.1, then halved until a bin has this many values under the null.
TAIL_VALUES = 5
# Below this many null values the tails are those of the normal distribution.
MIN_NULL = 200
MIN_SPREAD = 20
# A stratum's share of real pairs is drawn towards its start, and the density of real pairs towards the null's, with the
# weight of this many pairs.
PRIOR_PAIRS, PRIOR_REAL = 2.0, 20.0
LEAST_RATIO, MOST_SHARE = 1e-3, 1 - 1e-6
MAX_ITERATIONS, TOLERANCE = 2000, 1e-7


@dataclass
class Source:
    """One kind of support: strata of pairs, from none (stratum 0: never real by this source) to strong.

    Attributes
    ----------
    stratum
        Per pair, int.
    start
        Share of real pairs per stratum that the fit starts from and falls back on; 0 for stratum 0.
    learn
        Whether shares are fitted, so that they never fall from one stratum to the next; else they stay as they start.
    """

    stratum: np.ndarray
    start: np.ndarray
    learn: bool = True


@dataclass
class TwoGroups:
    """The fitted model.

    Attributes
    ----------
    share
        Per source: share of real pairs in every stratum.
    ratio
        Sources x levels: density of the association among real pairs over that under the null, by level of the tail.
    edges
        Upper tail of the null at the borders of the levels, from 1 down to 0.
    log_likelihood_gain
        Natural log of the likelihood against that of the null for all pairs.
    """

    share: list[np.ndarray]
    ratio: np.ndarray
    edges: np.ndarray
    log_likelihood_gain: float

    def posterior(self, strata: list[np.ndarray], tail: np.ndarray) -> np.ndarray:
        """Probability that pairs are real: strata per source, upper tail under the null (NaN: unknown)."""
        level = levels_of(tail, self.edges)
        weights, none = _weights(self.share, strata)
        real = sum(w * np.append(row, 1.0)[level] for w, row in zip(weights, self.ratio, strict=True))
        return real / (real + none)


def upper_tail(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """P-values of values >= 0: (1 + null values at least as large) / (1 + null values); never zero.

    North et al. 2002, doi:10.1086/341527. With few null values, the values being |z|, from the normal distribution. NaN
    stays NaN.
    """
    if len(null) < MIN_NULL:
        return np.minimum(2 * stats.norm.sf(values), 1)
    tail = (1 + len(null) - np.searchsorted(np.sort(null), values, side="left")) / (1 + len(null))
    return np.where(np.isnan(values), np.nan, tail)


def standardise_to_null(values: np.ndarray, is_null: np.ndarray, n_components: int) -> np.ndarray:
    """Turn correlations into z: less the median of the null ones, over their standard deviation.

    With fewer than `MIN_SPREAD` null values the spread is that of random directions, 1 / sqrt(components).
    """
    null = values[is_null]
    if len(null) < MIN_SPREAD or not np.ptp(null):
        return values * np.sqrt(n_components)
    return (values - np.median(null)) / null.std(dtype=float)


def tail_edges(n_values: int) -> np.ndarray:
    """Edges of the bins of the null's upper tail, from 1 down to 0."""
    halvings = max(0, int(np.log2(max(0.1 * n_values / TAIL_VALUES, 1))))
    return np.concatenate([np.linspace(1, 0.1, 19), 0.1 * 0.5 ** np.arange(1, halvings + 1), [0]])


def levels_of(tail: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Level of every tail probability: i where edges[i + 1] < tail <= edges[i]; the last + 1 where it is unknown."""
    level = np.clip(len(edges) - 1 - np.searchsorted(edges[::-1], tail, side="left"), 0, len(edges) - 2)
    return np.where(np.isnan(tail), len(edges) - 1, level)


def rising_ratio(real: np.ndarray, mass: np.ndarray, null_pairs: float = 0.0) -> np.ndarray:
    """Density of real pairs over that of the null per level, never falling with association; 1 without real pairs.

    Parameters
    ----------
    real
        Expected real pairs per level.
    mass
        Share of the null per level.
    null_pairs
        Draws the ratio towards 1 with the weight of this many pairs: a few pairs cannot tell how real ones look.
    """
    total = real.sum() + null_pairs
    if total < 1:
        return np.ones(len(mass))
    return isotonic_regression((real / mass + null_pairs) / total, sample_weight=mass, y_min=LEAST_RATIO)


def fit_two_groups(sources: list[Source], tail: np.ndarray, n_null: int) -> TwoGroups:
    """Fit shares and densities by expectation maximisation; no labels are used.

    A pair is real if any source makes it so (noisy or): source k does with probability share_k(stratum). The
    association of a pair that is real by source k follows f_k, that of all others the null f0; f_k / f0 never falls
    with association. So the posterior is sum_k w_k f_k / (sum_k w_k f_k + w_0 f0), with w_k = share_k prod_{j<k} (1 -
    share_j) and w_0 = prod_j (1 - share_j): two groups (Efron 2008, doi:10.1214/07-STS236) whose proportions depend
    on covariates (Scott et al. 2015, doi:10.1080/01621459.2014.990973). Of all shares and densities that fit alike,
    differing by a part of the null that counts as real, those with the smallest shares are taken (Genovese &
    Wasserman 2004, doi:10.1214/009053604000000283, section 3): f_k is zero where association is weakest.

    Parameters
    ----------
    sources
        Kinds of support, each with a stratum for every pair.
    tail
        Per pair, upper tail of its association under the null; NaN where association says nothing.
    n_null
        Null values behind the tails.
    """
    edges = tail_edges(n_null)
    mass, n_levels = -np.diff(edges), len(edges) - 1
    # Pairs alike in strata and level are one cell of a table: the fit costs the same for a thousand pairs or a billion.
    shape = (*(len(source.start) for source in sources), n_levels + 1)
    key = np.ravel_multi_index((*(source.stratum for source in sources), levels_of(tail, edges)), shape)
    cell, n = np.unique(key, return_counts=True)
    *strata, level = np.unravel_index(cell, shape)
    share = [np.array(source.start, dtype=float) for source in sources]
    # Before the first step real pairs are taken to have stronger association: density 2 (1 - tail).
    ratio = np.tile(2 - edges[1:] - edges[:-1], (len(sources), 1))
    gain = -np.inf
    for _ in range(MAX_ITERATIONS):
        weights, none = _weights(share, strata)
        evidence = [weight * np.append(row, 1.0)[level] for weight, row in zip(weights, ratio, strict=True)]
        total = none + sum(evidence)
        previous, gain = gain, float(n @ np.log(total))
        if gain - previous < TOLERANCE * n.sum():
            break
        left = n.astype(float)
        for k, source in enumerate(sources):
            real = n * evidence[k] / total
            by_level = np.bincount(level, real, n_levels + 1)[:-1]
            ratio[k] = rising_ratio(by_level, mass, PRIOR_REAL)
            if source.learn:
                share[k] = _shares(source, *(np.bincount(strata[k], pairs, shape[k]) for pairs in (real, left)))
                share[k], ratio[k] = _purified(share[k], ratio[k], by_level.sum())
            left = left - real
    return TwoGroups(share, ratio, edges, gain)


def _weights(share, strata) -> tuple[list[np.ndarray], np.ndarray]:
    """Probability of being real by every source, those before it failing; and by none."""
    weights, none = [], 1.0
    for values, stratum in zip(share, strata, strict=True):
        weights.append(none * values[stratum])
        none = none * (1 - values[stratum])
    return weights, none


def _shares(source: Source, real: np.ndarray, exposed: np.ndarray) -> np.ndarray:
    """Share of real pairs per stratum, drawn towards the start and never falling."""
    exposed = exposed + PRIOR_PAIRS
    share = isotonic_regression((real + PRIOR_PAIRS * source.start) / exposed, sample_weight=exposed)
    return np.where(source.start > 0, np.minimum(share, MOST_SHARE), 0.0)


def _purified(share: np.ndarray, ratio: np.ndarray, n_real: float) -> tuple[np.ndarray, np.ndarray]:
    """Move the part of the null that a density holds, beyond what it was drawn there, back to the null."""
    part = max(ratio[0] - PRIOR_REAL / (n_real + PRIOR_REAL), 0)
    return share * (1 - part), (ratio - part) / (1 - part)
