"""Predicted numbers judged on held-out cells, beside simple regressions that are fitted in the same folds."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from regulonformer.errors import InputError
from regulonformer.evaluate.bootstrap import Resamples, interval
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.spaces import components

METRICS = ("rmse", "r2", "pearson", "spearman")
PENALTIES = np.logspace(-2, 4, 13)  # of ridge regressions; one is chosen by leave-one-out on the training cells


def predict_baselines(rna, atac, values: np.ndarray, test: np.ndarray, settings, seed: int) -> dict[str, np.ndarray]:
    """Fit every baseline on the training cells of a fold and predict its held-out cells.

    Parameters
    ----------
    rna, atac
        Counts, cells x genes and cells x peaks; None for one that no cell has.
    values
        (N,) number of each cell.
    test
        (N,) bool, True for held-out cells.
    settings
        `EvaluateSettings`: pca_components, n_top_genes, neighbours.
    seed
        Seed of the randomised decompositions.

    Returns
    -------
    dict of str to numpy.ndarray
        Method to the number predicted for each held-out cell.
    """
    train = ~test
    spaces = components(rna, atac, train, settings, seed)
    neighbours = KNeighborsRegressor(min(settings.neighbours, int(train.sum())))
    found = {"mean": np.full(test.sum(), values[train].mean())}
    first = next(iter(spaces))
    models = [(f"kNN {first}", neighbours, spaces[first])]
    models += [(f"ridge {name}", RidgeCV(PENALTIES), space) for name, space in spaces.items()]
    return found | {name: model.fit(x[train], values[train]).predict(x[test]) for name, model, x in models}


def judge_numbers(
    predictions: pd.DataFrame,
    *,
    ours: str,
    dataset: str,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Score every method on the same resamples of cells.

    Parameters
    ----------
    predictions
        One row per method, cell and seed: method, cell, sample, fold, seed, truth, predicted. Cells are drawn within
        samples.
    ours
        Method that the others are compared with.
    dataset
        Name in the table.
    bootstrap
        Resamples per interval.
    confidence
        Level of the percentile intervals.
    seed
        Seed of the resampling.

    Returns
    -------
    pandas.DataFrame
        Tidy rows over all held-out cells (fold `pooled`): each seed, and seed `all`, the mean over seeds, whose
        interval draws seeds too. `gap_*` is the score of a method less ours, over the same resamples.

    Raises
    ------
    InputError
        If methods or seeds did not predict the same cells.
    """
    wide = predictions.pivot_table(index="cell", columns=["method", "seed"], values="predicted")
    cells = predictions.drop_duplicates("cell").set_index("cell").loc[wide.index]
    seeds = sorted(predictions["seed"].unique())
    n_methods = predictions["method"].nunique()
    if len(predictions) != wide.size or wide.shape[1] != n_methods * len(seeds) or wide.isna().any(axis=None):
        problem = "methods or seeds were judged on different cells"
        raise InputError(dataset, problem, "Run every method on the same cells, folds and seeds")
    strata = (cells["sample"].astype(str) + " " + cells["fold"].astype(str)).to_numpy()
    # Whole groups are not drawn here: one group for all.
    draws = Resamples(strata, np.zeros(len(cells)), np.zeros(len(cells)), len(seeds), bootstrap, seed)
    truth, rows, means = cells["truth"].to_numpy(float), [], {}

    def add(method, seed, metric, values_R):
        low, high = interval(values_R[0], values_R[1:], metric.removeprefix("gap_"), confidence)
        rows.append((method, dataset, "pooled", str(seed), metric, values_R[0], low, high))

    for method in sorted(wide.columns.levels[0], key=lambda method: method != ours):
        by_seed = [number_scores(draws.sums_of_folds(tally(truth, wide[method, s].to_numpy()))[0.0]) for s in seeds]
        for metric in METRICS:
            scores_SR = np.stack([scores[metric] for scores in by_seed])
            for seed, values_R in zip(seeds, scores_SR, strict=True):
                add(method, seed, metric, values_R)
            mean_R = np.r_[scores_SR[:, 0].mean(), draws.mean_over_seeds(scores_SR[:, 1:])]
            add(method, "all", metric, mean_R)
            means[method, metric] = mean_R
            if method != ours:
                add(method, "all", f"gap_{metric}", mean_R - means[ours, metric])
    return pd.DataFrame(rows, columns=COLUMNS)


def tally(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Rows whose sums over cells give the scores: (12, N); a resample of cells is a weight per column.

    Rows: squared error, one; then for the numbers and for their ranks: truth, prediction, and their products. Numbers
    are taken from the mean of the truth, so that sums of squares keep their digits. Ranks are those among all cells.
    """
    centre = truth.mean()
    rows = [(truth - predicted) ** 2, np.ones_like(truth)]
    for x, y in ((truth - centre, predicted - centre), (_ranks(truth), _ranks(predicted))):
        rows += [x, y, x * x, y * y, x * y]
    return np.stack(rows)


def number_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """RMSE, R2 and the correlations of Pearson and Spearman, from the sums of `tally`: (12, ...) to metric -> (...).

    R2 is 1 - squared error / squared deviation of the truth: 0 for the mean of the cells judged, below 0 for worse.
    A constant prediction has correlation 0.
    """
    error, n = sums[:2]
    pearson, squares = _correlation(n, *sums[2:7])
    spearman, _ = _correlation(n, *sums[7:12])
    return {"rmse": np.sqrt(error / n), "r2": 1 - error / squares, "pearson": pearson, "spearman": spearman}


def _correlation(n, x, y, xx, yy, xy) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of Pearson, and the sum of squared deviations of x."""
    x_squares, y_squares = xx - x * x / n, yy - y * y / n
    scale = np.sqrt(np.maximum(x_squares * y_squares, 0))
    constant = y_squares <= 1e-9 * np.maximum(yy, 1e-12)
    return np.where(constant, 0.0, (xy - x * y / n) / np.where(constant | (scale == 0), 1, scale)), x_squares


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks about their mean."""
    return rankdata(values) - (len(values) + 1) / 2
