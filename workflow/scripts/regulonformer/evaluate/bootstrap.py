"""Resamples of cells, of libraries or donors, and of seeds; the same draws for all methods, so differences are paired.

Efron and Tibshirani 1993, "An introduction to the bootstrap", chapters 13 (percentile intervals) and 8 (groups).
"""

import numpy as np

from regulonformer.evaluate.metrics import LOWER_IS_BETTER

MIN_GROUPS = 4  # fewer groups say nothing about how groups differ
BLOCK = 100  # resamples per matrix product: bounds memory


class Resamples:
    """Draws that every method is scored on.

    Parameters
    ----------
    strata
        (N,) library (and fold) of each cell. Cells are drawn with replacement within each.
    folds
        (N,) fold of each cell.
    groups
        (N,) donor or library of each cell, drawn as a whole with replacement, if there are at least `MIN_GROUPS`.
    n_seeds
        Seeds of the methods.
    n
        Resamples R.
    seed
        Seed of all draws.
    """

    def __init__(
        self, strata: np.ndarray, folds: np.ndarray, groups: np.ndarray, n_seeds: int, n: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.n = n
        # Column 0 is every cell once: the scores themselves.
        self.weights_NR = np.ones((len(strata), 1 + n), np.uint8)
        for stratum in np.unique(strata):
            cells = np.flatnonzero(strata == stratum)
            self.weights_NR[cells, 1:] = draw_times(len(cells), n, rng)
        self.cells_of_fold = {fold: np.flatnonzero(folds == fold) for fold in np.unique(folds)}
        names, self.group_of_cell = np.unique(groups, return_inverse=True)
        self.times_GR = draw_times(len(names), n, rng) if len(names) >= MIN_GROUPS else None
        # The same draw of seeds for all methods; column 0 of sums is the mean over all of them.
        self.seeds_RS = rng.integers(n_seeds, size=(n, n_seeds))

    def sums_of_folds(self, tally_FN) -> dict:
        """Sums over cells, F x (1 + R), of each fold."""
        return {fold: self._product(tally_FN[:, cells], cells) for fold, cells in self.cells_of_fold.items()}

    def sums_of_groups(self, tally_FN) -> np.ndarray | None:
        """Sums over cells of drawn groups, F x R; None where there are too few groups."""
        if self.times_GR is None:
            return None
        one_hot = np.eye(len(self.times_GR))[self.group_of_cell]
        return (tally_FN @ one_hot) @ self.times_GR.astype(float)

    def mean_over_seeds(self, scores_SR: np.ndarray) -> np.ndarray:
        """Mean over drawn seeds, of scores of all seeds on the same resamples: S x R x ... to R x ..."""
        return np.mean([scores_SR[self.seeds_RS[:, s], np.arange(self.n)] for s in range(len(scores_SR))], axis=0)

    def _product(self, tally_FN, cells: np.ndarray) -> np.ndarray:
        blocks = range(0, self.n + 1, BLOCK)
        return np.hstack([tally_FN @ self.weights_NR[cells, at : at + BLOCK].astype(float) for at in blocks])


def draw_times(n_items: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each item is drawn with replacement: items x resamples."""
    times = np.empty((n_items, n), np.uint8)
    for resample in range(n):
        times[:, resample] = np.bincount(rng.integers(n_items, size=n_items), minlength=n_items)
    return times


def bootstrap_losses(sums: dict[str, np.ndarray], weight: np.ndarray, strata: np.ndarray, n: int, seed: int) -> dict:
    """Loss per entry of every method over cells drawn with replacement within each library, the same for all methods.

    `draw_times` draws from the same distribution with other random numbers, which would change scores already reported.

    Parameters
    ----------
    sums
        Method to cell sums of one modality.
    weight
        Weight of each cell's entries.
    strata
        Library of each cell.
    n
        Resamples.
    seed
        Seed of the draw.

    Returns
    -------
    dict of str to numpy.ndarray
        Method to n losses.
    """
    rng, times = np.random.default_rng(seed), np.zeros((n, len(strata)))
    for stratum in np.unique(strata):
        here = np.flatnonzero(strata == stratum)
        times[:, here] = rng.multinomial(len(here), np.full(len(here), 1 / len(here)), size=n)
    return {method: times @ values / (times @ weight) for method, values in sums.items()}


def interval(value: float, draws: np.ndarray, metric: str, confidence: float) -> tuple[float, float]:
    """Percentile interval of a score or of a difference of scores.

    Resampling adds the noise of bins a second time, which lifts a calibration error whatever the cells: its draws
    are moved back to have the value as their mean.

    Parameters
    ----------
    value
        Score on all cells.
    draws
        (R,) scores of resamples.
    metric
        Name of the metric.
    confidence
        Level.
    """
    if metric in LOWER_IS_BETTER:
        draws = draws - draws.mean() + value
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
