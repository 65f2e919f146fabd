"""All methods judged on the same held-out cells: scores, recall of each class, reliability, and paired differences."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.evaluate.bootstrap import Resamples, interval
from regulonformer.evaluate.metrics import (
    COLUMNS,
    LOWER_IS_BETTER,
    METRICS,
    confidence_bins,
    recall_and_precision,
    scores,
    tally_matrix,
)
from regulonformer.log import progress

CELL = ["cell", "sample", "group", "fold", "truth"]
ALL = ("pooled", "all")  # fold and seed of the mean over seeds of scores over all cells


class Judgement(NamedTuple):
    """Tables of one data set.

    Attributes
    ----------
    scores
        Tidy rows (`COLUMNS`, then group_low, group_high), fold and seed as text: each fold of each seed; fold `pooled`
        of each seed; and fold `pooled`, seed `all`: the mean over seeds.
    recall
        method, dataset, class, n_cells, recall, precision, ci_low, ci_high (of recall).
    reliability
        method, dataset, bin, confidence, accuracy, n_cells (of all seeds).
    differences
        method, dataset, metric, value (ours less the method), ci_low, ci_high, verdict, group_low, group_high.
    """

    scores: pd.DataFrame
    recall: pd.DataFrame
    reliability: pd.DataFrame
    differences: pd.DataFrame


def judge(
    predictions: pd.DataFrame,
    *,
    dataset: str,
    ours: str,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Judgement:
    """Score every method of a data set on the same resamples.

    The interval of the mean over seeds takes both sources of noise: every resample draws cells (the same for all
    seeds and methods) and, with replacement, the seeds it averages over (the same for all methods). A second interval,
    group_low to group_high, draws whole donors or libraries instead of cells, where there are at least four.

    Parameters
    ----------
    predictions
        One row per method, cell and seed: method, cell, sample, group, fold, seed, truth, predicted, confidence. Cells
        are drawn within samples; groups are what was held out as a whole.
    dataset
        Name in the tables.
    ours
        Method that the others are compared with.
    bootstrap
        Resamples per interval.
    confidence
        Level of the percentile intervals.
    seed
        Seed of the resampling.

    Raises
    ------
    InputError
        If methods or seeds did not predict the same cells, or a cell was predicted twice.
    """
    cells, seeds = _cells_and_seeds(predictions, dataset)
    classes = np.unique(predictions[["truth", "predicted"]].to_numpy().astype(str))
    strata = cells["sample"].astype(str) + " " + cells["fold"].astype(str)
    draws = Resamples(
        strata.to_numpy(), cells["fold"].to_numpy(), cells["group"].astype(str).to_numpy(), len(seeds), bootstrap, seed
    )
    judged, reliability = {}, []
    methods = sorted(predictions["method"].unique())
    for method in progress(methods, len(methods), f"scores of {dataset}", "method"):
        part = predictions[predictions["method"] == method].sort_values(["seed", "cell"])
        reliability.append(_reliability(part).assign(method=method))
        judged[method] = _Judged(part, cells, seeds, classes, draws)
    rows, recall = [], []
    for method, result in judged.items():
        rows += [(method, dataset, *row) for row in result.rows(confidence)]
        recall.append(result.recall_rows(confidence).assign(method=method, dataset=dataset))
    first = ["method", "dataset"]
    recall, reliability = pd.concat(recall), pd.concat(reliability).assign(dataset=dataset)
    return Judgement(
        pd.DataFrame(rows, columns=[*COLUMNS, "group_low", "group_high"]),
        recall[first + [column for column in recall if column not in first]],
        reliability[first + [column for column in reliability if column not in first]],
        _differences(judged, ours, dataset, confidence),
    )


class _Judged:
    """Scores of one method on all cells (column 0) and on every resample."""

    def __init__(self, part: pd.DataFrame, cells: pd.DataFrame, seeds: list, classes: np.ndarray, draws) -> None:
        self.classes, self.n_classes, self.n_cells = classes, len(classes), cells["truth"].value_counts()
        truth = np.searchsorted(classes, cells["truth"].to_numpy().astype(str))
        bins = confidence_bins(part["confidence"].to_numpy()).reshape(len(seeds), -1)
        predicted = np.searchsorted(classes, part["predicted"].to_numpy().astype(str)).reshape(len(seeds), -1)
        probability = part["confidence"].to_numpy().reshape(len(seeds), -1)
        # Metric to values, for each fold and seed.
        self.scores, pooled, grouped = {}, [], []
        for s, name in enumerate(seeds):
            tally = tally_matrix(truth, predicted[s], probability[s], bins[s], self.n_classes)
            folds = draws.sums_of_folds(tally)
            for fold, sums in folds.items():
                self.scores[str(fold), str(name)] = scores(sums, self.n_classes)
            pooled.append(sum(folds.values()))
            self.scores["pooled", str(name)] = scores(pooled[-1], self.n_classes)
            grouped.append(draws.sums_of_groups(tally))
        self.scores[ALL] = {
            metric: _with_mean(np.stack([self.scores["pooled", str(name)][metric] for name in seeds]), draws)
            for metric in METRICS
        }
        self.groups = {}
        if grouped[0] is not None:
            by_seed = [scores(sums, self.n_classes) for sums in grouped]
            self.groups = {m: draws.mean_over_seeds(np.stack([one[m] for one in by_seed])) for m in METRICS}
        found = [recall_and_precision(sums, self.n_classes) for sums in pooled]
        self.precision = np.stack([precision[:, 0] for _, precision in found])
        self.recall = np.stack([_with_mean(by_class, draws) for by_class in np.stack([r for r, _ in found], axis=1)])

    def rows(self, confidence: float):
        """Rows fold, seed, metric, value, its interval, and the interval over groups."""
        for (fold, seed), values in self.scores.items():
            for metric in METRICS:
                score, *resampled = values[metric]
                low, high = interval(score, np.array(resampled), metric, confidence)
                over_groups = (np.nan, np.nan)
                if (fold, seed) == ALL and self.groups:
                    over_groups = interval(score, self.groups[metric], metric, confidence)
                yield (fold, seed, metric, score, low, high, *over_groups)

    def recall_rows(self, confidence: float) -> pd.DataFrame:
        """One row per class."""
        sides = [(1 - confidence) / 2, (1 + confidence) / 2]
        rows = []
        for c, name in enumerate(self.classes):
            drawn = self.recall[c, 1:][~np.isnan(self.recall[c, 1:])]
            low, high = np.quantile(drawn, sides) if len(drawn) else (np.nan, np.nan)
            called = self.precision[:, c][~np.isnan(self.precision[:, c])]
            precision = called.mean() if len(called) else np.nan
            rows.append((name, int(self.n_cells.get(name, 0)), self.recall[c, 0], precision, low, high))
        return pd.DataFrame(rows, columns=["class", "n_cells", "recall", "precision", "ci_low", "ci_high"])


def _with_mean(scores_SR: np.ndarray, draws) -> np.ndarray:
    """Mean over seeds of column 0, and over drawn seeds of the resamples: S x (1 + R) to 1 + R."""
    return np.r_[scores_SR[:, 0].mean(), draws.mean_over_seeds(scores_SR[:, 1:])]


def _differences(judged: dict, ours: str, dataset: str, confidence: float) -> pd.DataFrame:
    """Ours less every other method, on the same resamples."""
    rows, own = [], judged[ours]
    for method, other in judged.items():
        for metric in METRICS if method != ours else ():
            value, *drawn = own.scores[ALL][metric] - other.scores[ALL][metric]
            low, high = interval(value, np.array(drawn), metric, confidence)
            over_groups = (np.nan, np.nan)
            if own.groups:
                over_groups = interval(value, own.groups[metric] - other.groups[metric], metric, confidence)
            rows.append((method, dataset, metric, value, low, high, verdict(low, high, metric), *over_groups))
    columns = ["method", "dataset", "metric", "value", "ci_low", "ci_high", "verdict", "group_low", "group_high"]
    return pd.DataFrame(rows, columns=columns)


def verdict(low: float, high: float, metric: str) -> str:
    """`wins` or `loses` where the interval of ours less theirs is clear of 0, else `ties`."""
    if metric in LOWER_IS_BETTER:
        low, high = -high, -low
    return "wins" if low > 0 else "loses" if high < 0 else "ties"


def _reliability(part: pd.DataFrame) -> pd.DataFrame:
    """Mean confidence and share of right predictions in bins of confidence."""
    right = (part["truth"] == part["predicted"]).astype(float)
    table = part.assign(bin=confidence_bins(part["confidence"].to_numpy()), accuracy=right)
    table = table.groupby("bin").agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), n_cells=("cell", "size")
    )
    return table.reset_index()


def _cells_and_seeds(predictions: pd.DataFrame, dataset: str) -> tuple[pd.DataFrame, list]:
    """Cells in the order of their names, and seeds; refuses methods or seeds that predicted other cells."""
    reference = None
    for method, part in predictions.groupby("method", sort=True):
        seeds = sorted(part["seed"].unique())
        for seed, rows in part.groupby("seed"):
            if rows["cell"].duplicated().any():
                twice = rows.loc[rows["cell"].duplicated(), "cell"].iloc[0]
                problem = f"{method} predicts cell {twice} twice with seed {seed}"
                raise InputError(dataset, problem, "Give each fold's predictions once")
            cells = rows.sort_values("cell")[CELL].reset_index(drop=True)
            if reference is None:
                reference, all_seeds, first = cells, seeds, f"{method}, seed {seed}"
            if seeds != all_seeds or not cells[["cell", "fold", "truth"]].equals(reference[["cell", "fold", "truth"]]):
                problem = f"{first} and {method}, seed {seed} were judged on different cells, folds or seeds"
                raise InputError(dataset, problem, "Run every method on the same cells, folds and seeds")
    return reference, all_seeds
