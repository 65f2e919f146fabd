"""Scores of a classification, computed once over pooled predictions, with bootstrap intervals.

Averaging a macro-F1 over mini-batches or folds gives a number that depends on their size; here every metric is a
function of one confusion matrix.
"""

import numpy as np
import pandas as pd

from regulonformer.errors import InputError

METRICS = ("accuracy", "macro_f1", "balanced_accuracy")
COLUMNS = ("method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high")


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count cells by true (rows) and predicted (columns) class.

    Parameters
    ----------
    truth, predicted
        Class index per cell.
    n_classes
        Number of classes C.

    Returns
    -------
    numpy.ndarray
        (C, C) counts.
    """
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, macro-F1 and balanced accuracy of one or many confusion matrices.

    Parameters
    ----------
    confusion
        (..., C, C) counts, true classes in rows.

    Returns
    -------
    dict of str to numpy.ndarray
        Metric to array of shape (...). As in scikit-learn, macro-F1 averages over the classes that occur in truth
        or prediction, balanced accuracy over those that occur in the truth.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    true, called = confusion.sum(-1), confusion.sum(-2)
    f1 = 2 * hits / np.maximum(true + called, 1)
    recall = hits / np.maximum(true, 1)
    return {
        "accuracy": hits.sum(-1) / np.maximum(true.sum(-1), 1),
        "macro_f1": f1.sum(-1) / np.maximum((true + called > 0).sum(-1), 1),
        "balanced_accuracy": recall.sum(-1) / np.maximum((true > 0).sum(-1), 1),
    }


def bootstrap_scores(
    truth: np.ndarray, predicted_SN: np.ndarray, strata: np.ndarray, n_classes: int, n: int, seed: int
) -> dict[str, np.ndarray]:
    """Resample cells with replacement within each library, the same cells for every seed.

    Cells of one library with the same truth and the same predictions are exchangeable, so the counts of such
    patterns are drawn from a multinomial: the same distribution as drawing cells, at the cost of a few hundred
    patterns.

    Parameters
    ----------
    truth
        (N,) class index.
    predicted_SN
        (S, N) class index predicted with each of S seeds.
    strata
        (N,) library of each cell.
    n_classes
        Number of classes.
    n
        Resamples.
    seed
        Seed of the draw.

    Returns
    -------
    dict of str to numpy.ndarray
        Metric to (n, S).
    """
    rng = np.random.default_rng(seed)
    n_seeds = len(predicted_SN)
    counts = np.zeros((n_seeds, n, n_classes**2))
    for stratum in np.unique(strata):
        here = strata == stratum
        patterns, times = np.unique(np.vstack([truth[here], predicted_SN[:, here]]), axis=1, return_counts=True)
        draws = rng.multinomial(times.sum(), times / times.sum(), size=n)
        for s in range(n_seeds):
            entry = patterns[0] * n_classes + patterns[1 + s]
            used, column = np.unique(entry, return_inverse=True)
            one_hot = np.zeros((len(entry), len(used)), dtype=np.float32)
            one_hot[np.arange(len(entry)), column] = 1
            counts[s][:, used] += draws.astype(np.float32) @ one_hot
    per_seed = [scores(counts[s].reshape(n, n_classes, n_classes)) for s in range(n_seeds)]
    return {metric: np.stack([values[metric] for values in per_seed], axis=1) for metric in METRICS}


def score_predictions(
    predictions: pd.DataFrame, *, dataset: str, bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Score one method's held-out predictions.

    Parameters
    ----------
    predictions
        One row per cell and seed: method, cell, sample, fold, seed, truth, predicted.
    dataset
        Name in the table.
    bootstrap
        Resamples per interval.
    confidence
        Level of the percentile interval.
    seed
        Seed of the resampling.

    Returns
    -------
    pandas.DataFrame
        Tidy rows (`COLUMNS`, fold and seed as text): each fold of each seed; fold `pooled` of each seed; and fold
        `pooled`, seed `all`: the mean over seeds. The interval of the last takes both sources of noise: every
        resample draws cells (the same for all seeds) and, with replacement, the seeds it averages over.

    Raises
    ------
    InputError
        If the seeds did not predict the same cells, or a cell was predicted twice.
    """
    method = predictions["method"].iloc[0]
    classes = np.unique(np.concatenate([predictions["truth"].astype(str), predictions["predicted"].astype(str)]))
    table = predictions.assign(
        truth=np.searchsorted(classes, predictions["truth"].astype(str)),
        predicted=np.searchsorted(classes, predictions["predicted"].astype(str)),
    )
    rows = []
    for (fold, model_seed), part in [*table.groupby(["fold", "seed"]), *_pooled(table)]:
        seeds = sorted(part["seed"].unique())
        wide = _by_seed(part, seeds, method)
        predicted_SN = wide[seeds].to_numpy().T
        truth, strata = wide["truth"].to_numpy(), wide["sample"].to_numpy().astype(str)
        values = scores(np.stack([confusion_matrix(truth, p, len(classes)) for p in predicted_SN]))
        resampled = bootstrap_scores(truth, predicted_SN, strata, len(classes), bootstrap, seed)
        drawn = np.random.default_rng(seed).integers(len(seeds), size=(bootstrap, len(seeds)))
        for metric in METRICS:
            means = np.take_along_axis(resampled[metric], drawn, axis=1).mean(1)
            low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
            row = (method, dataset, str(fold), str(model_seed), metric, values[metric].mean(), low, high)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _pooled(table: pd.DataFrame):
    """Name and rows of each seed over all folds, then of all seeds."""
    yield from ((("pooled", seed), part) for seed, part in table.groupby("seed"))
    yield ("pooled", "all"), table


def _by_seed(part: pd.DataFrame, seeds: list, method: str) -> pd.DataFrame:
    """Cells x (truth, sample, one column of predictions per seed), in the order of cell ids."""
    if part.duplicated(["cell", "seed"]).any():
        twice = part.loc[part.duplicated(["cell", "seed"]), "cell"].iloc[0]
        raise InputError(method, f"cell {twice} is predicted twice with one seed", "Give each fold's predictions once")
    wide = part.pivot(index="cell", columns="seed", values="predicted")
    if wide.isna().any(axis=None):
        missing = wide.isna().sum().to_dict()
        raise InputError(
            method, f"the seeds did not predict the same cells (missing: {missing})", "Run every fold and seed"
        )
    first = part[part["seed"] == seeds[0]].set_index("cell")
    return wide.astype(int).join(first[["truth", "sample"]])
