"""How well predicted changes explain what a perturbation did: observed changes, and the scores of predictions."""

import re

import numpy as np
from scipy import stats

TOP_GENES = 20
OVERLAP_GENES = 50
SUFFIX = r"[_-](ko|kd|oe|crispri|crispra)$"
POOLED = "pooled"
RANKS = ("rank_of_true_tf", "reciprocal_rank", "discrimination")


def perturbed_genes(label: str, control: str) -> tuple[str, ...]:
    """Genes that a label names: `A`, `A_ko`, `A+B`; sorted, without the control, which may stand in for a second gene.

    Endings that are cut, in any case: _ko, _kd, _oe, _crispri, _crispra (or with a hyphen).
    """
    names = (re.sub(SUFFIX, "", part.strip(), flags=re.IGNORECASE) for part in label.split("+"))
    return tuple(sorted({name for name in names if name and name != control}))


def arms(treated: np.ndarray, strata: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of treated and of control cells of each stratum that has both."""
    found = []
    for name in np.unique(strata[treated]):
        here = strata == name
        pair = np.flatnonzero(here & treated), np.flatnonzero(here & ~treated)
        if all(map(len, pair)):
            found.append(pair)
    return found


def resample(pairs: list, n_cells: int, n: int, seed: int) -> np.ndarray:
    """How often each cell counts: once in the first row, then in n resamples within arms, (1 + n) x cells."""
    rng = np.random.default_rng(seed)
    times_RC = np.zeros((1 + n, n_cells), np.float32)
    for rows in (rows for pair in pairs for rows in pair):
        times_RC[0, rows] = 1
        times_RC[1:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n)
    return times_RC


def observed_change(values, pairs: list, times_RC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of treated and control cells, averaged over strata with weights n m / (n + m).

    These weights are the best ones where all cells vary alike (Mantel-Haenszel for means).

    Parameters
    ----------
    values
        Cells x anything, array or csr.
    pairs
        As `arms` gives them.
    times_RC
        As `resample` gives them.

    Returns
    -------
    change_RN
        One row per resample, the first that of the cells as they are.
    error_N
        Standard error of the first, from the spread of cells within arms.
    """
    total, weight, squares, freedom = 0.0, 0.0, 0.0, 0
    for pair in pairs:
        means, sizes = [], []
        for rows in pair:
            part, times_Rn = values[rows], times_RC[:, rows]
            means.append((times_Rn @ part) / len(rows))
            squared = part.multiply(part) if hasattr(part, "multiply") else part**2
            squares = squares + np.asarray(squared.sum(axis=0)).ravel() - len(rows) * means[-1][0] ** 2
            sizes.append(len(rows))
            freedom += len(rows) - 1
        w = sizes[0] * sizes[1] / sum(sizes)
        total, weight = total + w * (means[0] - means[1]), weight + w
    error_N = np.sqrt(np.maximum(squares, 0) / max(freedom, 1) / weight)
    return np.asarray(total) / weight, error_N


def stratum_weights(pairs: list, group_C: np.ndarray, groups: list[str]) -> np.ndarray:
    """Share of each group of cells in an observed change; sums to 1 over the groups that have both arms."""
    weight_G = np.zeros(len(groups))
    for treated, control in pairs:
        if (name := group_C[treated[0]]) in groups:
            weight_G[groups.index(name)] += len(treated) * len(control) / (len(treated) + len(control))
    return weight_G / max(weight_G.sum(), 1e-12)


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation along the last axis; 0 where one of both does not vary."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.divide((a * b).sum(-1), length, out=np.zeros(np.shape(length)), where=length > 1e-12)


def match(predicted_TN: np.ndarray, own_T: np.ndarray, observed_RN: np.ndarray) -> np.ndarray:
    """Correlation of the change predicted for each of T genes with an observed one, without the gene itself; R x T.

    Parameters
    ----------
    predicted_TN
        Predicted changes.
    own_T
        Column of each gene itself; -1 if it has none.
    observed_RN
        Observed changes, best in units of their standard error.
    """
    kept_TN = np.arange(predicted_TN.shape[1])[None] != own_T[:, None]
    n_T = kept_TN.sum(1)
    mean_T = np.where(kept_TN, predicted_TN, 0).sum(1) / n_T
    # Centred, and zero at the gene itself: the products with observed changes are covariances then.
    centred_TN = np.where(kept_TN, predicted_TN - mean_T[:, None], 0)
    own_RT = np.where(own_T >= 0, observed_RN[:, own_T], 0)
    total_RT = observed_RN.sum(1, keepdims=True) - own_RT
    squares_RT = (observed_RN**2).sum(1, keepdims=True) - own_RT**2 - total_RT**2 / n_T
    length_RT = np.sqrt(np.maximum(squares_RT, 0)) * np.linalg.norm(centred_TN, axis=1)
    products_RT = observed_RN @ centred_TN.T
    return np.divide(products_RT, length_RT, out=np.zeros_like(products_RT), where=length_RT > 1e-12)


def rank_scores(score_RT: np.ndarray, true: int) -> dict[str, np.ndarray]:
    """Where the true gene stands among T candidates: rank, reciprocal rank, discrimination.

    Ties share their mean rank. The discrimination score is the share of other candidates that the true one beats (the
    perturbation discrimination of Wu et al. 2024, arXiv:2408.10609, turned round), 1 at best and .5 by chance.
    """
    mine = score_RT[:, [true]]
    rank_R = 1 + (score_RT > mine).sum(1) + ((score_RT == mine).sum(1) - 1) / 2
    return {
        "rank_of_true_tf": rank_R,
        "reciprocal_rank": 1 / rank_R,
        "discrimination": 1 - (rank_R - 1) / max(score_RT.shape[1] - 1, 1),
    }


def change_scores(predicted_N: np.ndarray, observed_RN: np.ndarray, error_N: np.ndarray) -> dict[str, np.ndarray]:
    """How well one predicted change agrees with an observed one.

    Returns
    -------
    dict
        pearson_change, spearman_change: over all genes; pearson_change_top20: over the genes that changed most beyond
        their error; overlap_top50: share of the genes that changed most among those predicted to.
    """
    z_N = np.abs(observed_RN[0]) / np.maximum(error_N, 1e-9)
    top = np.argsort(-z_N, kind="stable")[:TOP_GENES]
    changed = np.abs(observed_RN) / np.maximum(error_N, 1e-9)
    most_R50 = np.argsort(-changed, axis=1, kind="stable")[:, :OVERLAP_GENES]
    called = np.zeros(len(predicted_N), bool)
    called[np.argsort(-np.abs(predicted_N), kind="stable")[:OVERLAP_GENES]] = np.any(predicted_N)
    ranked_RN = stats.rankdata(observed_RN, axis=1)
    return {
        "pearson_change": pearson(predicted_N, observed_RN),
        "spearman_change": pearson(stats.rankdata(predicted_N), ranked_RN),
        "pearson_change_top20": pearson(predicted_N[top], observed_RN[:, top]),
        "overlap_top50": called[most_R50].mean(axis=1),
    }


def with_gaps(rows: list[tuple], ours: str) -> list[tuple]:
    """Scores, and of all cells together the score of each other method less ours, over the same resamples.

    Parameters
    ----------
    rows
        fold, method, metric, the value followed by those of resamples.
    ours
        Method that the others are compared with.
    """
    own = {metric: values for fold, method, metric, values in rows if (fold, method) == (POOLED, ours)}
    others = [row for row in rows if row[0] == POOLED and row[1] != ours and row[2] in own]
    return rows + [(fold, method, f"gap_{metric}", values - own[metric]) for fold, method, metric, values in others]


def interval(values: np.ndarray, confidence: float, centred: bool) -> np.ndarray:
    """Bounds of a value (the first) from those of resamples.

    Parameters
    ----------
    values
        The value, then those of resamples.
    confidence
        Level of the interval.
    centred
        Shift the resamples so that their mean is the value. Resampled cells carry the noise of sampling twice, which
        lowers every correlation with their change.
    """
    drawn = values[1:] + (values[0] - values[1:].mean() if centred else 0)
    return np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
