"""Labels for cells that have none: an ensemble of the folds' models, with a class `unknown`.

A label is withheld for one of two reasons. The models are not sure enough (`uncertain`): the confidence that it takes
is chosen on held-out cells, so that of the labels given no more than a stated share are wrong. Or the cell lies further
from all labelled cells than held-out cells do (`new`): a softmax is sure of itself far from its classes too, so its
confidence cannot tell.
"""

import numpy as np
import pandas as pd
from scipy.stats import binom
from sklearn.neighbors import NearestNeighbors

UNKNOWN = "unknown"
# Chance that a chosen confidence lets more than the stated share of errors pass, by the luck of the held-out cells.
RISK = 0.1
STEPS = 20  # thresholds tried
# In more components the noise of all drowns what sets a new kind of cell apart.
COMPONENTS, NEIGHBOURS = 15, 15
MIN_LEFT_OUT = 10  # cells of a class that is left out to see whether it would be noticed


def choose_confidence(confidence: np.ndarray, correct: np.ndarray, error_rate: float) -> tuple[float, float]:
    """Lowest confidence at which labels of held-out cells are right often enough.

    A threshold passes if so few errors among the cells above it would be seen with a chance of at most `RISK`, were the
    true share of errors `error_rate`. Thresholds are lowered until one fails, so that trying many costs nothing
    (fixed-sequence testing: Angelopoulos et al. 2021, "Learn then Test", 2110.01052, section 2.3). The first has cells
    enough to pass with one error among them.

    Parameters
    ----------
    confidence
        (N,) calibrated probability of the predicted class, of held-out cells.
    correct
        (N,) whether it was right.
    error_rate
        Share of errors allowed among labels given.

    Returns
    -------
    (float, float)
        Threshold, and share of the held-out cells that reach it; infinity and 0 where none passes.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, errors = confidence[order], np.cumsum(~correct[order])
    first = min(int(2 * np.log(RISK) / np.log(1 - error_rate)), len(ranked))
    chosen = np.inf, 0.0
    for last in np.unique(np.linspace(first, len(ranked), STEPS).astype(int)):
        threshold = ranked[last - 1]
        n = int((ranked >= threshold).sum())
        if binom.cdf(errors[n - 1], n, error_rate) > RISK:
            break
        chosen = float(threshold), n / len(ranked)
    return chosen


def mean_probabilities(folds: list[tuple[list[str], np.ndarray]]) -> tuple[list[str], np.ndarray]:
    """Mean over models that need not know the same classes; a class that a model does not know has probability 0.

    Parameters
    ----------
    folds
        Classes and (cells, classes) probabilities of each model.

    Returns
    -------
    (list of str, numpy.ndarray)
        All classes, sorted, and (cells, C) probabilities.
    """
    classes = sorted({name for names, _ in folds for name in names})
    total = np.zeros((len(folds[0][1]), len(classes)))
    for names, probabilities in folds:
        total[:, [classes.index(name) for name in names]] += probabilities
    return classes, total / len(folds)


def novelty(space: np.ndarray, fold: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Conformal p-value of each target cell: small where it is further from labelled cells than held-out cells are.

    Of each fold, the distance of a cell to the labelled cells of the other folds (mean over its neighbours) is ranked
    among those of the fold's own cells, which come from donors that the others have not seen either. So for cells of
    known classes the p-value is about uniform, whatever the shift between donors. (Conformal p-values for outliers:
    Bates et al. 2023, Annals of Statistics 51:149, section 2. The mean over folds is at or below a with a chance of 2 a
    at most: Vovk and Wang 2020, 1212.4966, section 1.)

    Parameters
    ----------
    space
        (N, K) place of every cell, learned without labels; NaN for a cell that has none.
    fold
        (N,) fold of labelled cells, -1 for the others.
    target
        (M,) row numbers of cells to judge. A labelled one is judged too, as if it had no label: leave it out of `fold`.

    Returns
    -------
    numpy.ndarray
        (M,) p-values; NaN for a cell that has no place, and for all where those with one are of fewer than two folds.
    """
    fold, placed = _with_place(space, fold), np.isfinite(space[target, 0])
    p, target = np.full(len(target), np.nan), target[placed]
    held_out = np.unique(fold[fold >= 0])
    if len(held_out) < 2 or not len(target):
        return p
    p[placed] = 0
    for number in held_out:
        others = space[(fold >= 0) & (fold != number)]
        nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(others))).fit(others)
        usual = np.sort(nearest.kneighbors(space[fold == number])[0].mean(1))
        distance = nearest.kneighbors(space[target])[0].mean(1)
        p[placed] += (len(usual) - np.searchsorted(usual, distance, side="left") + 1) / (len(usual) + 1)
    return p / len(held_out)


def _with_place(space: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Fold of labelled cells that have a place, -1 for the others."""
    return np.where(np.isfinite(space[:, 0]), fold, -1)


def noticed_if_new(space: np.ndarray, fold: np.ndarray, truth: np.ndarray, error_rate: float) -> dict[str, float]:
    """Share of each class's cells that would have been found new, had the class been unknown.

    Every class with `MIN_LEFT_OUT` cells or more is left out of the labelled cells in turn. It tells how far `new` can
    be relied on in these data: a class between two others is hard to notice.

    Parameters
    ----------
    space, fold
        As in `novelty`.
    truth
        (N,) label of every cell.
    error_rate
        Share of cells of known classes that may be found new.
    """
    shares, fold = {}, _with_place(space, fold)
    for name, size in pd.Series(truth[fold >= 0]).value_counts().sort_index().items():
        left_out = (truth == name) & (fold >= 0)
        without = np.where(left_out, -1, fold)
        if size >= MIN_LEFT_OUT and len(np.unique(without[without >= 0])) > 1:
            shares[str(name)] = float((novelty(space, without, np.flatnonzero(left_out)) <= error_rate).mean())
    return shares


def name_cells(
    cells: pd.DataFrame, classes: list[str], probabilities: np.ndarray, p_new: np.ndarray, threshold: float, rate: float
) -> pd.DataFrame:
    """Labels of cells, or `unknown` and why.

    Parameters
    ----------
    cells
        Cells to name: sample and donor, by cell id.
    classes, probabilities
        Of the ensemble: C names, (cells, C).
    p_new
        (cells,) p-values of `novelty`; a cell with NaN is not found new.
    threshold
        Confidence that a label takes.
    rate
        p-value at or below which a cell is new; 0 for none.

    Returns
    -------
    pandas.DataFrame
        cell, sample, donor, predicted, confidence, nearest (the class that is nearest even so), reason (`new`,
        `uncertain` or ""), novelty (p-value) and `p:<class>`.
    """
    nearest, confidence = np.array(classes)[probabilities.argmax(1)], probabilities.max(1)
    reason = np.select([p_new <= rate, confidence < threshold], ["new", "uncertain"], "")
    table = pd.DataFrame({"cell": cells.index.astype(str), "sample": cells["sample"].to_numpy()})
    table["donor"] = cells["donor"].to_numpy() if "donor" in cells else ""
    table["predicted"] = np.where(reason == "", nearest, UNKNOWN)
    table = table.assign(confidence=confidence, nearest=nearest, reason=reason, novelty=p_new)
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p:{name}" for name in classes])], axis=1)
