"""Scores of a predicted modality, and simple predictors of it that learn inside the fold."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from regulonformer.evaluate.bootstrap import bootstrap_losses

PER_CELL = ("pearson_per_cell", "rmse")
# Tried on validation cells.
NEIGHBOURS, PENALTIES = (15, 50, 150), (10.0, 100.0, 1000.0, 10_000.0)


def judged_features(seen: np.ndarray, folds: np.ndarray, min_cells: int, most: int, seed: int) -> np.ndarray:
    """Features that can be judged in every fold; some of them at random if there are more than wanted.

    Parameters
    ----------
    seen
        Cells x features: whether a peak is open, a gene expressed.
    folds
        Fold in which each cell is held out.
    min_cells
        Held-out cells of each fold in which a feature must be seen, and as many in which it must not be.
    most
        Features wanted.
    seed
        Seed of the choice.

    Returns
    -------
    numpy.ndarray
        Their numbers, in order.
    """
    fits = np.ones(seen.shape[1], bool)
    for fold in np.unique(folds):
        n_seen = np.asarray(seen[folds == fold].sum(0)).ravel()
        fits &= (n_seen >= min_cells) & ((folds == fold).sum() - n_seen >= min_cells)
    # At random: the most common peaks are open in nearly all cells and tell least between them.
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(fits))[:most])


def column_correlations(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Pearson correlation of every column; 0 where either does not vary."""
    predicted, observed = (part - part.mean(0) for part in (predicted, observed))
    scale = np.sqrt((predicted**2).sum(0) * (observed**2).sum(0))
    # A constant column differs from its mean by rounding.
    varies = scale > 1e-9 * len(scale)
    return np.where(varies, (predicted * observed).sum(0) / np.where(varies, scale, 1.0), 0.0)


def column_aurocs(predicted: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of every column (Mann-Whitney U, ties count half); 0.5 where a class is absent."""
    n_positive = positive.sum(0)
    pairs = n_positive * (len(positive) - n_positive)
    above = (rankdata(predicted, axis=0) * positive).sum(0) - n_positive * (n_positive + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), 0.5)


def score_fold(predicted: np.ndarray, observed: np.ndarray, feature: str) -> dict[str, np.ndarray]:
    """Scores of the held-out cells of a fold.

    Parameters
    ----------
    predicted, observed
        Cells x features.
    feature
        `peak` (observed open or closed) or `gene` (observed log-normalised expression).

    Returns
    -------
    dict of str to numpy.ndarray
        `pearson_per_<feature>` (features), for peaks `auroc_per_peak` (features), `pearson_per_cell` (cells), `rmse`
        (cells; squared errors, of which the root is taken in the end) and `pearson_pseudobulk` (one value).
    """
    scores = {f"pearson_per_{feature}": column_correlations(predicted, observed)}
    if feature == "peak":
        scores["auroc_per_peak"] = column_aurocs(predicted, observed > 0)
    return scores | {
        "pearson_per_cell": column_correlations(predicted.T, observed.T),
        "rmse": ((predicted - observed) ** 2).mean(1),
        "pearson_pseudobulk": column_correlations(predicted.mean(0)[:, None], observed.mean(0)[:, None]),
    }


def predict_floors(
    components: np.ndarray, log_depth: np.ndarray, space: np.ndarray, target: np.ndarray, validation, query
) -> dict[str, np.ndarray]:
    """Predict the target by simple methods.

    Parameters
    ----------
    components, log_depth
        PCA or LSI of the source (cells x K) and log of total counts, of training cells.
    space
        PCA or LSI of the target, training cells x K.
    target
        Training cells x features.
    validation
        True for the training cells that choose numbers of neighbours and penalties.
    query
        Components and log depth of the cells to predict.

    Returns
    -------
    dict of str to numpy.ndarray
        Cells x features: the mean of the training cells; the mean of the nearest training cells; ridge regression to
        the components of the target, and from there to its features by least squares; ridge regression with depth
        among the inputs, straight to the features.
    """
    scale = components.std(0)[0]
    with_depth = [
        np.column_stack([x, scale * (depth - log_depth.mean()) / max(log_depth.std(), 1e-6)])
        for x, depth in ((components, log_depth), query)
    ]
    given = np.column_stack([space, np.ones(len(space))])

    def through_space(penalty, train, inputs):
        features = np.linalg.lstsq(given[train], target[train], rcond=None)[0]
        found = Ridge(penalty).fit(components[train], space[train]).predict(inputs)
        return np.column_stack([found, np.ones(len(found))]) @ features

    def straight(penalty, train, inputs):
        return Ridge(penalty).fit(with_depth[0][train], target[train]).predict(inputs)

    def neighbours(k, train, inputs):
        nearest = NearestNeighbors(n_neighbors=min(k, train.sum())).fit(components[train]).kneighbors_graph(inputs)
        return nearest @ target[train] / min(k, train.sum())

    def fitted(predict, options, x, inputs):
        errors = [((predict(o, ~validation, x[validation]) - target[validation]) ** 2).mean() for o in options]
        return predict(options[int(np.argmin(errors))], np.ones(len(target), bool), inputs)

    return {
        "mean profile": np.broadcast_to(target.mean(0), (len(query[0]), target.shape[1])),
        "kNN": fitted(neighbours, NEIGHBOURS, components, query[0]),
        "ridge": fitted(through_space, PENALTIES, components, query[0]),
        "ridge with depth": fitted(straight, PENALTIES, *with_depth),
    }


def score_table(
    scores: dict, strata: dict[int, np.ndarray], ours: str, *, bootstrap: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Scores of folds, and over all held-out cells with intervals.

    Parameters
    ----------
    scores
        (method, fold, seed) to what `score_fold` gives.
    strata
        Fold to the library of each of its held-out cells.
    ours
        Method that the others are compared with.
    bootstrap, confidence, seed
        Resamples, level of the intervals, seed of the resampling.

    Returns
    -------
    pandas.DataFrame
        method, fold, seed, metric, value, ci_low, ci_high: each fold of each seed, without interval; `pooled`, mean of
        the folds weighted by their cells; and seed `all`, the mean over seeds. Intervals come from drawing features
        with replacement for scores per feature, cells within each library for scores per cell; with seed `all` each
        resample draws its seeds, too. `gap_*` is the score of a method less ours, over the same resamples.
    """
    methods, folds, seeds = (list(dict.fromkeys(part)) for part in zip(*scores, strict=True))
    sizes = np.array([len(strata[fold]) for fold in folds], float)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows = [
        (method, str(fold), str(number), metric, _final(metric, values.mean()), np.nan, np.nan)
        for (method, fold, number), found in scores.items()
        for metric, values in found.items()
    ]
    for metric in scores[methods[0], folds[0], seeds[0]]:
        by_cell, per_unit = metric in PER_CELL, {}
        for method in methods:
            for number in seeds:
                parts = [scores[method, fold, number][metric] for fold in folds]
                # Cells differ between folds, features are the same in all.
                per_unit[method, number] = np.concatenate(parts) if by_cell else np.average(parts, 0, sizes)
        n_units = len(per_unit[methods[0], seeds[0]])
        libraries = np.concatenate([strata[fold] for fold in folds]) if by_cell else np.zeros(n_units)
        drawn = bootstrap_losses(per_unit, np.ones(n_units), libraries, bootstrap, seed)
        values = {key: _final(metric, units.mean()) for key, units in per_unit.items()}
        drawn = {key: _final(metric, means) for key, means in drawn.items()}
        picks = np.random.default_rng(seed).integers(len(seeds), size=(len(seeds), bootstrap))

        def over_seeds(method, drawn=drawn, picks=picks):
            return np.take_along_axis(np.stack([drawn[method, number] for number in seeds]), picks, 0).mean(0)

        for method in methods:
            rows += [_row(method, n, metric, values[method, n], drawn[method, n], tails, n_units) for n in seeds]
            mean = np.mean([values[method, number] for number in seeds])
            rows.append(_row(method, "all", metric, mean, over_seeds(method), tails, n_units))
            if method != ours:
                gap = mean - np.mean([values[ours, number] for number in seeds])
                differences = over_seeds(method) - over_seeds(ours)
                rows.append(_row(method, "all", f"gap_{metric}", gap, differences, tails, n_units))
    return pd.DataFrame(rows, columns=["method", "fold", "seed", "metric", "value", "ci_low", "ci_high"])


def _final(metric: str, mean):
    """What is reported of a mean: the root of squared errors, anything else as it is."""
    return np.sqrt(mean) if metric == "rmse" else mean


def _row(method, seed, metric, value, drawn, tails, n_units) -> tuple:
    """A pooled row; a single value has no interval."""
    low, high = np.quantile(drawn, tails) if n_units > 1 else (np.nan, np.nan)
    return method, "pooled", str(seed), metric, float(value), low, high
