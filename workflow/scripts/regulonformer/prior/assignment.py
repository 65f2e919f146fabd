"""Probability of a link: every element acts on one gene at most, chosen by distance and association."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.isotonic import isotonic_regression

from regulonformer.prior.two_groups import levels_of, rising_ratio, tail_edges

# Bins of distance: up to the first, then two per doubling.
NEAREST_BP, BINS_PER_DOUBLING = 2000, 2
# Odds of a link against none that the fit starts from and, with this weight in pairs, falls back on.
OWN_PROMOTER_ODDS, OTHER_PROMOTER_FACTOR, PRIOR_PAIRS = 10.0, 0.1, 2.0
MAX_ITERATIONS, TOLERANCE = 1000, 1e-6
OWN_PROMOTER, OTHER_PROMOTER, DISTAL = range(3)
CLASSES = ("own promoter", "promoter of another gene", "distal")


@dataclass
class LinkModel:
    """The fitted model.

    Attributes
    ----------
    prior
        Probability of every pair from class and distance alone.
    posterior
        With the association.
    odds
        class, from_bp, to_bp, pairs, odds: of a link against the peak having no target.
    ratio
        element ("promoter" or "distal"), tail_from, tail_to (upper tail of the null), ratio: density of z among links
        over that of the null.
    log_likelihood_gain
        Natural log of the likelihood against the null's for all pairs.
    """

    prior: np.ndarray
    posterior: np.ndarray
    odds: pd.DataFrame
    ratio: pd.DataFrame
    log_likelihood_gain: float


def pair_classes(pairs: pd.DataFrame) -> np.ndarray:
    """Class of every pair: the gene's own promoter, another gene's promoter, or a distal element.

    Parameters
    ----------
    pairs
        peak, is_promoter.
    """
    own = pairs["is_promoter"].to_numpy()
    promoters = pairs["peak"].to_numpy()[own]
    elsewhere = pairs["peak"].isin(promoters).to_numpy()
    return np.where(own, OWN_PROMOTER, np.where(elsewhere, OTHER_PROMOTER, DISTAL))


def starting_odds(pair_class, distance, decay_bp: float) -> np.ndarray:
    """Odds of a link before any data.

    10 in the own promoter, else exp(-|distance| / decay), as contact falls with distance (Fulco et al. 2019,
    doi:10.1038/s41588-019-0538-0); a tenth of that for promoters of other genes.
    """
    odds = np.exp(-np.abs(distance) / decay_bp)
    factor = np.array([1.0, OTHER_PROMOTER_FACTOR, 1.0])[pair_class]
    return np.where(pair_class == OWN_PROMOTER, OWN_PROMOTER_ODDS, factor * odds)


def distance_edges(window_bp: float) -> np.ndarray:
    """Inner edges of the bins of distance, bp: 2,000 times powers of the square root of 2."""
    n = max(0, int(np.ceil(np.log2(window_bp / NEAREST_BP) * BINS_PER_DOUBLING)))
    return NEAREST_BP * 2.0 ** (np.arange(n) / BINS_PER_DOUBLING)


def fit_links(pairs: pd.DataFrame, upper_tail: np.ndarray, *, window_bp: float, decay_bp: float) -> LinkModel:
    """Fit the model to all pairs by expectation maximisation; no labels are used.

    Every peak has one target among its candidate genes, or none: gene g with probability w_g / (1 + sum of w), where w
    depends on class and distance (and, but for own promoters, never rises with distance). The z of the target follows
    f1, that of all others the matched null f0. L = f1(z) / f0(z) never falls with z, and differs between promoters and
    distal elements. Hence the posterior w_g L_g / (1 + sum of w L): two groups (Efron 2008, doi:10.1214/07-STS236),
    covariates in the prior (Scott et al. 2015, doi:10.1080/01621459.2014.990973), and one effect per unit with a prior
    over distance learnt by EM (Veyrieras et al. 2008, doi:10.1371/journal.pgen.1000214).

    Parameters
    ----------
    pairs
        peak, distance (bp), is_promoter.
    upper_tail
        Probability under the null of a z at least as large, per pair; NaN where there is none, and L = 1.
    window_bp
        Largest distance, bp.
    decay_bp
        Of the starting odds, bp.
    """
    pair_class, distance = pair_classes(pairs), np.abs(pairs["distance"].to_numpy())
    edges, tails = distance_edges(window_bp), tail_edges(len(pairs))
    n_bins, n_tails = len(edges) + 1, len(tails) - 1
    # Where a pair's prior and its evidence are looked up: class x distance, and element x tail.
    cell = pair_class * n_bins + np.where(pair_class == OWN_PROMOTER, 0, np.digitize(distance, edges))
    level = levels_of(upper_tail, tails)
    level = np.where(level < n_tails, (pair_class == DISTAL) * n_tails + level, 2 * n_tails)
    n_pairs = np.bincount(cell, minlength=3 * n_bins)
    start = np.bincount(cell, starting_odds(pair_class, distance, decay_bp), 3 * n_bins) / np.maximum(n_pairs, 1)
    peak = pd.factorize(pairs["peak"])[0]
    prior, posterior, odds, ratio, gain = _maximise(peak, cell, level, start.reshape(3, n_bins), -np.diff(tails))

    lower, upper = np.append(0, edges), np.append(edges, window_bp)
    table = {"class": np.repeat(CLASSES, n_bins), "from_bp": np.tile(lower, 3), "to_bp": np.tile(upper, 3)}
    table = pd.DataFrame(table | {"pairs": n_pairs, "odds": odds.ravel()})[n_pairs > 0].reset_index(drop=True)
    tail_table = {"element": np.repeat(["promoter", "distal"], n_tails), "tail_from": np.tile(tails[:-1], 2)}
    tail_table |= {"tail_to": np.tile(tails[1:], 2), "ratio": ratio.ravel()}
    return LinkModel(prior, posterior, table, pd.DataFrame(tail_table), gain)


def _maximise(peak, cell, level, start, mass):
    """Expectation maximisation from the starting odds (classes x distances) over tails of some null mass.

    Both M-steps are exact up to minorisation: the odds by the update for Luce's choice model (Hunter 2004,
    doi:10.1214/aos/1079120141), the monotone functions by pooling adjacent violators.
    """
    n_peaks, n_tails = peak.max(initial=-1) + 1, len(mass)
    # Before the first step links are taken to have larger z: density 2 x (1 - tail).
    tail = 1 - np.cumsum(mass) + mass / 2
    odds, ratio, gain = start, np.tile(2 * (1 - tail), (2, 1)), -np.inf
    for _ in range(MAX_ITERATIONS):
        weight = odds.ravel()[cell]
        evidence = weight * np.append(ratio, 1.0)[level]
        without, total = (1 + np.bincount(peak, values, n_peaks) for values in (weight, evidence))
        prior, posterior = weight / without[peak], evidence / total[peak]
        previous, gain = gain, float(np.log(total / without).sum())
        if gain - previous <= TOLERANCE * n_peaks:
            break
        exposure = np.bincount(cell, 1 / without[peak], start.size).reshape(start.shape)
        expected = np.bincount(cell, posterior, start.size).reshape(start.shape)
        odds = _falling_odds(expected, exposure, start)
        linked = np.bincount(level, posterior, ratio.size + 1)[:-1].reshape(2, n_tails)
        ratio = np.array([rising_ratio(row, mass) for row in linked])
    return prior, posterior, odds, ratio, gain


def _falling_odds(expected, exposure, start) -> np.ndarray:
    """Odds per class and distance: expected links over exposure, drawn a little towards the start."""
    exposure = exposure + PRIOR_PAIRS
    odds = (expected + PRIOR_PAIRS * start) / exposure
    for row in (OTHER_PROMOTER, DISTAL):
        odds[row] = isotonic_regression(odds[row], sample_weight=exposure[row], increasing=False)
    return odds
