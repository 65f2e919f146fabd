"""Whether scores are the probabilities that they claim to be."""

import numpy as np
import pandas as pd

COLUMNS = ("score_low", "score_high", "pairs", "mean_score", "share_true", "ci_low", "ci_high")


def reliability(scores, truth, unit, *, n: int, confidence: float, seed: int, n_bins: int = 10) -> pd.DataFrame:
    """Share of true pairs at each level of the score: the reliability diagram.

    Bins of equal width (Niculescu-Mizil and Caruana 2005, doi:10.1145/1102351.1102430). Pairs of one TF or gene are not
    independent, so intervals come from drawing whole ones with replacement.

    Parameters
    ----------
    scores
        Per pair, 0 to 1.
    truth
        bool per pair.
    unit
        Unit of each pair, int codes 0..U-1.
    n, confidence, seed
        Resamples, level of the interval, seed of the draw.
    n_bins
        Bins between 0 and 1.

    Returns
    -------
    pandas.DataFrame
        One row per bin that holds a pair: score_low, score_high (borders), pairs, mean_score, share_true, ci_low,
        ci_high (NaN where there is one unit alone).
    """
    if not len(scores):
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    level = np.minimum((np.asarray(scores) * n_bins).astype(int), n_bins - 1)
    size, said, true = (np.bincount(level, weights, n_bins) for weights in (None, scores, truth))
    used = np.flatnonzero(size)
    low, high = _intervals(level, truth, unit, used, n=n, confidence=confidence, seed=seed)
    columns = (used / n_bins, (used + 1) / n_bins, size[used].astype(int), said[used] / size[used])
    return pd.DataFrame(dict(zip(COLUMNS, (*columns, true[used] / size[used], low, high), strict=True)))


def _intervals(level, truth, unit, used, *, n, confidence, seed) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the share of true pairs in each bin used; a draw without its pairs says nothing."""
    n_units, n_bins = int(unit.max()) + 1, int(used.max()) + 1
    if n_units == 1:
        return np.full(len(used), np.nan), np.full(len(used), np.nan)
    cell, shape = unit * n_bins + level, (n_units, n_bins)
    size, true = (np.bincount(cell, weights, n_units * n_bins).reshape(shape)[:, used] for weights in (None, truth))
    times = np.random.default_rng(seed).multinomial(n_units, np.full(n_units, 1 / n_units), size=n).astype(float)
    drawn = times @ size
    share = np.divide(times @ true, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)
    low, high = np.nanquantile(share, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error: gap between mean score and share of true pairs, over the bins of `reliability`."""
    return float(np.average((table["mean_score"] - table["share_true"]).abs(), weights=table["pairs"]))
