"""Read the score table: pooled scores per method, which method is ours, and who wins."""

from dataclasses import dataclass

import pandas as pd

LOWER_IS_BETTER = ("ece", "brier", "nll", "log_loss")
LEADING = ("macro_f1", "accuracy", "balanced_accuracy", "auprc", "early_precision", "f0.1")
OURS_PREFIX = "regulonformer"
FLOORS = ("majority",)


@dataclass
class Comparison:
    """Our model against the best baseline on one metric of one dataset.

    Attributes
    ----------
    outcome
        `above` or `below` where the two confidence intervals are apart, `tied` where they overlap,
        `unknown` where an interval is missing, `alone` where there is no baseline.
    """

    dataset: str
    metric: str
    ours: pd.Series
    best: pd.Series | None
    outcome: str


def is_ours(method: str) -> bool:
    """Whether a method of the table is our model or a variant of it."""
    return method.lower().startswith(OURS_PREFIX)


def our_method(methods) -> str | None:
    """Name of the full model: the shortest of the names that start with `regulonformer`."""
    return min((method for method in methods if is_ours(method)), key=len, default=None)


def pooled_scores(annotation: pd.DataFrame) -> pd.DataFrame:
    """One score per dataset, method and metric.

    Of the rows over all folds (`fold` = pooled) the one over all seeds (`seed` = all) counts; without it the rows of
    the seeds are averaged, interval ends included. A method without pooled rows gets the mean over its folds and no
    interval.

    Returns
    -------
    pandas.DataFrame
        dataset, method, metric, value, ci_low, ci_high.
    """
    keys = ["dataset", "method", "metric"]
    table = annotation.assign(metric=annotation["metric"].str.lower().str.replace("-", "_"))
    over_folds = table[table["fold"] == "pooled"]
    over_seeds = over_folds[over_folds["seed"] == "all"]
    covered = pd.MultiIndex.from_frame(over_folds[keys]).isin(pd.MultiIndex.from_frame(over_seeds[keys]))
    pooled = pd.concat([over_seeds, over_folds[~covered]]).groupby(keys)[["value", "ci_low", "ci_high"]].mean()
    per_fold = table[table["fold"] != "pooled"].groupby(keys)[["value"]].mean()
    only_folds = per_fold[~per_fold.index.isin(pooled.index)]
    return pd.concat([pooled, only_folds]).reset_index().sort_values(keys, ignore_index=True)


def fold_scores(annotation: pd.DataFrame) -> pd.DataFrame:
    """Scores of the single folds, metric names as in `pooled_scores`."""
    table = annotation.assign(metric=annotation["metric"].str.lower().str.replace("-", "_"))
    return table[table["fold"] != "pooled"]


def metrics_in_order(scores: pd.DataFrame) -> list[str]:
    """Metrics of the table, the leading ones first."""
    present = set(scores["metric"])
    return [metric for metric in LEADING if metric in present] + sorted(present - set(LEADING))


def methods_in_order(scores: pd.DataFrame) -> list[str]:
    """Methods from best to worst on the leading metric."""
    metric = metrics_in_order(scores)[0]
    ranked = scores[scores["metric"] == metric].sort_values(
        ["value", "method"], ascending=[metric in LOWER_IS_BETTER, True]
    )
    rest = sorted(set(scores["method"]) - set(ranked["method"]))
    return ranked["method"].tolist() + rest


def compare(scores: pd.DataFrame, dataset: str, metric: str) -> Comparison | None:
    """Compare our model with the best baseline.

    Parameters
    ----------
    scores
        Result of `pooled_scores`.
    dataset, metric
        What to compare on.

    Returns
    -------
    Comparison or None
        None if our model was not scored.
    """
    rows = scores[(scores["dataset"] == dataset) & (scores["metric"] == metric)].set_index("method")
    name = our_method(rows.index)
    if name is None:
        return None
    ours, baselines = rows.loc[name], rows[[not is_ours(method) for method in rows.index]]
    if baselines.empty:
        return Comparison(dataset, metric, ours, None, "alone")
    lower = metric in LOWER_IS_BETTER
    best = baselines.loc[baselines["value"].idxmin() if lower else baselines["value"].idxmax()]
    return Comparison(dataset, metric, ours, best, _outcome(ours, best, lower))


def _outcome(ours: pd.Series, best: pd.Series, lower_is_better: bool) -> str:
    if pd.isna([ours["ci_low"], ours["ci_high"], best["ci_low"], best["ci_high"]]).any():
        return "unknown"
    if ours["ci_low"] > best["ci_high"]:
        return "below" if lower_is_better else "above"
    if ours["ci_high"] < best["ci_low"]:
        return "above" if lower_is_better else "below"
    return "tied"
