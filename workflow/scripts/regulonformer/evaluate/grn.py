"""How well scored TF-gene edges and peak-gene links agree with a truth, and what they predict."""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

BETA = 0.1
RIDGE = 1.0


def ranking_metrics(truth: np.ndarray, scores: np.ndarray, n_called: int | None = None) -> dict[str, float]:
    """Area under the precision-recall curve, early precision, and precision, recall and F0.1 of the called edges.

    Ties share their rank: an edge list that calls nothing scores the share of true edges.

    Parameters
    ----------
    truth
        bool per candidate.
    scores
        Per candidate; 0 means not called.
    n_called
        Edges called, the strongest ones; None calls all with a score above 0.

    Returns
    -------
    dict
        auprc; early_precision: precision among as many edges as are true (Pratapa et al. 2020,
        doi:10.1038/s41592-019-0690-6); precision, recall, f0.1 (beta = 0.1, so precision counts most: Badia-i-Mompel et
        al. 2024, doi:10.1101/2024.12.20.629764).
    """
    n_true = int(truth.sum())
    if not n_true:
        return {}
    found = scores > 0
    n_called = int(found.sum()) if n_called is None else min(n_called, int(found.sum()))
    precision, recall = _precision(truth, scores, n_called), 0.0
    recall = precision * n_called / n_true
    bottom = BETA**2 * precision + recall
    return {
        "auprc": float(average_precision_score(truth, scores)),
        "early_precision": _precision(truth, scores, n_true),
        "precision": precision,
        "recall": recall,
        "f0.1": (1 + BETA**2) * precision * recall / bottom if bottom else 0.0,
    }


def _precision(truth: np.ndarray, scores: np.ndarray, n: int) -> float:
    """Share of true ones among the n strongest; those tied at the border count by their mean."""
    if n == 0:
        return 0.0
    border = np.partition(scores, len(scores) - n)[len(scores) - n]
    above, tied = scores > border, scores == border
    left = n - above.sum()
    return float((truth[above].sum() + left * truth[tied].mean()) / n)


def judge_ranking(truth, scores_of_seed: list, unit, *, n: int, confidence: float, seed: int, n_called=None) -> list:
    """`ranking_metrics` of a method with percentile intervals from resampling whole units with replacement.

    Edges of one TF are not independent, so TFs are drawn and not edges (or genes, where links are judged).

    Parameters
    ----------
    truth
        bool per candidate.
    scores_of_seed
        One array of scores per candidate for each seed of the method; a method without chance has one.
    unit
        Unit of each candidate, int codes 0..U-1.
    n
        Resamples, spread over the seeds.
    confidence
        Level of the interval.
    seed
        Seed of the draw.
    n_called
        See `ranking_metrics`; a resample calls in proportion to its size.

    Returns
    -------
    list of tuple
        (seed or "all", metric, value, ci_low, ci_high); "all" is the mean over seeds, its interval takes both sources
        of chance.
    """
    order = np.argsort(unit, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(unit))[:-1])
    rng, values, draws = np.random.default_rng(seed), [], []
    for scores in scores_of_seed:
        values.append(ranking_metrics(truth, scores, n_called))
        for _ in range(n // len(scores_of_seed) if len(members) > 1 else 0):
            rows = np.concatenate([members[u] for u in rng.integers(len(members), size=len(members))])
            called = None if n_called is None else round(n_called * len(rows) / len(truth))
            draws.append((len(values) - 1, ranking_metrics(truth[rows], scores[rows], called)))
    rows, tails = [], [(1 - confidence) / 2, (1 + confidence) / 2]
    for metric in values[0]:
        drawn = np.array([(i, found[metric]) for i, found in draws if found])
        per_seed = [
            (i, [value[metric]], drawn[drawn[:, 0] == i, 1] if len(drawn) else []) for i, value in enumerate(values)
        ]
        everything = [("all", [value[metric] for value in values], drawn[:, 1] if len(drawn) else [])]
        for name, found, sample in [*(per_seed if len(values) > 1 else []), *everything]:
            low, high = np.quantile(sample, tails) if len(sample) else (np.nan, np.nan)
            rows.append((str(name), metric, float(np.mean(found)), float(low), float(high)))
    return rows


def mean_with_interval(values, unit, *, n: int, confidence: float, seed: int) -> tuple[float, float, float]:
    """Mean and its percentile interval from resampling whole units with replacement.

    Parameters
    ----------
    values, unit
        Per item: a number, and the unit it belongs to (int codes 0..U-1).
    n, confidence, seed
        See `judge_ranking`.
    """
    total, size = np.bincount(unit, values), np.bincount(unit)
    drawn = np.random.default_rng(seed).integers(len(size), size=(n, len(size)))
    means = total[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.mean(values)), float(low), float(high)


def true_signs(edges: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The edges that are true and whose true sign is known, with it as `sign_true`.

    Parameters
    ----------
    edges, truth
        source, target, sign (0: unknown).
    """
    known = truth[truth["sign"] != 0].drop_duplicates(["source", "target"])
    return edges.merge(known[["source", "target", "sign"]], on=["source", "target"], suffixes=("", "_true"))


def folds_of(groups, n_folds: int = 3) -> np.ndarray:
    """Fold of each cell: whole donors or libraries in turn; where there is one alone, its cells in turn."""
    group = np.unique(groups, return_inverse=True)[1]
    return (group if group.max(initial=0) else np.arange(len(group))) % n_folds


def held_out_r2(expression, scores_of_fold: list, fold, *, n_regulators: np.ndarray) -> np.ndarray:
    """How well a gene's best-scored TFs predict its expression in cells that were not fitted.

    Ridge regression per gene on its strongest TFs, each fold predicted by a model of the others; R2 against the mean of
    the fitted cells, over all held-out cells at once. To be honest the scores of a fold must not have seen it either.

    Parameters
    ----------
    expression
        tuple (TFs, genes): cells x T and cells x G, log-normalised.
    scores_of_fold
        T x G for each fold; a TF of score 0 is no regulator.
    fold
        Fold of each cell.
    n_regulators
        Most TFs allowed per gene, the same for every method that is compared.

    Returns
    -------
    numpy.ndarray
        R2 of each gene: about 0 without a regulator, NaN for a gene without variance.
    """
    regulators, targets = expression
    error, total = np.zeros(targets.shape[1]), np.zeros(targets.shape[1])
    for held, scores in enumerate(scores_of_fold):
        fit, test = fold != held, fold == held
        x_mean, y_mean = regulators[fit].mean(axis=0), targets[fit].mean(axis=0)
        x, y = regulators[fit] - x_mean, targets[fit] - y_mean
        gram, cross = x.T @ x, x.T @ y
        x_test, y_test = regulators[test] - x_mean, targets[test] - y_mean
        total += np.square(y_test).sum(axis=0)
        for gene in range(targets.shape[1]):
            chosen = _strongest(scores[:, gene], int(n_regulators[gene]))
            penalty = RIDGE * np.eye(len(chosen))
            weight = np.linalg.solve(gram[np.ix_(chosen, chosen)] + penalty, cross[chosen, gene])
            error[gene] += np.square(y_test[:, gene] - x_test[:, chosen] @ weight).sum()
    return np.where(total > 0, 1 - error / np.where(total > 0, total, 1), np.nan)


def _strongest(scores: np.ndarray, n: int) -> np.ndarray:
    """Rows of the n largest scores above 0; the first wins a tie."""
    order = np.argsort(-scores, kind="stable")[:n]
    return order[scores[order] > 0]
