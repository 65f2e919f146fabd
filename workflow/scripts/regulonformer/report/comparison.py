"""Read tables of scores: pooled scores per method, which method is ours, and who wins."""

from dataclasses import dataclass, field

import pandas as pd

LOWER_IS_BETTER = ("ece", "brier", "nll", "log_loss", "mae", "rmse", "mse", "rank_of_true_tf")
# Metrics that stand first, and of which the first one present decides.
LEADING = (
    *("macro_f1", "accuracy", "balanced_accuracy", "auprc", "early_precision", "f0.1", "spearman", "r2", "pearson"),
    *("pearson_per_peak", "pearson_per_gene", "auroc_per_peak", "pearson_per_cell"),
    *("overall", "bio_conservation", "batch_correction", "nmi", "ari", "asw_label", "clisi"),
    *("rank_of_true_tf", "discrimination", "pearson_change", "precision_at_true", "precision_at_20"),
)
GAP = "gap_"  # start of metrics that hold the score of a method less ours
OURS_PREFIX = "regulonformer"
FLOORS = ("majority",)
OUTCOMES = {"wins": "above", "ties": "tied", "loses": "below"}


@dataclass
class Comparison:
    """Our model against the best baseline on one metric of one dataset.

    Attributes
    ----------
    outcome
        `above` or `below` where the difference is clear of 0 (its own interval where the pairs were resampled
        together, else two intervals that are apart), `tied` where it is not, `unknown` where an interval is missing,
        `alone` where there is no baseline.
    difference
        Row of the table of paired differences (ours less the best baseline), or None.
    tally
        Number of baselines that ours wins against, ties with and loses to, by paired differences; empty without them.
    """

    dataset: str
    metric: str
    ours: pd.Series
    best: pd.Series | None
    outcome: str
    difference: pd.Series | None = None
    tally: dict[str, int] = field(default_factory=dict)


def is_ours(method: str) -> bool:
    """Whether a method of the table is our model or a variant of it."""
    return method.lower().startswith(OURS_PREFIX)


def our_method(methods) -> str | None:
    """Name of the full model: the shortest of the names that start with `regulonformer`."""
    return min((method for method in methods if is_ours(method)), key=len, default=None)


def metric_keys(table: pd.DataFrame) -> pd.Series:
    """Metrics by one spelling: small letters and underscores."""
    return table["metric"].str.lower().str.replace("-", "_")


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
    table = annotation.assign(metric=metric_keys(annotation))
    over_folds = table[table["fold"] == "pooled"]
    over_seeds = over_folds[over_folds["seed"] == "all"]
    covered = pd.MultiIndex.from_frame(over_folds[keys]).isin(pd.MultiIndex.from_frame(over_seeds[keys]))
    pooled = pd.concat([over_seeds, over_folds[~covered]]).groupby(keys)[["value", "ci_low", "ci_high"]].mean()
    per_fold = table[table["fold"] != "pooled"].groupby(keys)[["value"]].mean()
    only_folds = per_fold[~per_fold.index.isin(pooled.index)]
    return pd.concat([pooled, only_folds]).reset_index().sort_values(keys, ignore_index=True)


def fold_scores(annotation: pd.DataFrame) -> pd.DataFrame:
    """Scores of the single folds, metric names as in `pooled_scores`."""
    table = annotation.assign(metric=metric_keys(annotation))
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


def compare(
    scores: pd.DataFrame, dataset: str, metric: str, differences: pd.DataFrame | None = None
) -> Comparison | None:
    """Compare our model with the best baseline.

    Parameters
    ----------
    scores
        Result of `pooled_scores`.
    dataset, metric
        What to compare on.
    differences
        Paired differences, ours less each method, with intervals and a verdict, if they were measured.

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
    if baselines["value"].isna().all():
        return Comparison(dataset, metric, ours, None, "alone")
    lower = metric in LOWER_IS_BETTER
    best = baselines.loc[baselines["value"].idxmin() if lower else baselines["value"].idxmax()]
    paired = _paired(differences, dataset, metric, baselines.index)
    if best.name not in paired.index:
        return Comparison(dataset, metric, ours, best, _outcome(ours, best, lower))
    difference, tally = paired.loc[best.name], paired["verdict"].value_counts().to_dict()
    return Comparison(dataset, metric, ours, best, OUTCOMES[difference["verdict"]], difference, tally)


def without_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Scores alone, without the differences to ours that may stand among them."""
    return table[~table["metric"].str.startswith(GAP)]


def differences_among(table: pd.DataFrame) -> pd.DataFrame | None:
    """Paired differences that a table of scores holds itself, turned to ours less each method, with their verdict.

    Returns
    -------
    pandas.DataFrame or None
        method, dataset, metric, value, ci_low, ci_high, verdict (missing without an interval); None if there are none.
    """
    gaps = table[table["metric"].str.startswith(GAP) & (table["fold"] == "pooled") & (table["seed"] == "all")]
    if gaps.empty:
        return None
    metric = metric_keys(gaps.assign(metric=gaps["metric"].str.removeprefix(GAP)))
    turned = gaps.assign(metric=metric, value=-gaps["value"], ci_low=-gaps["ci_high"], ci_high=-gaps["ci_low"])
    better = pd.Series(1, index=turned.index).where(~metric.isin(LOWER_IS_BETTER), -1)
    bounds = turned[["ci_low", "ci_high"]].mul(better, axis=0)
    verdict = pd.Series("ties", index=turned.index)
    verdict = verdict.mask(bounds.min(axis=1) > 0, "wins").mask(bounds.max(axis=1) < 0, "loses")
    verdict = verdict.where(bounds.notna().all(axis=1))
    return turned.assign(verdict=verdict)[["method", "dataset", "metric", "value", "ci_low", "ci_high", "verdict"]]


def _paired(differences: pd.DataFrame | None, dataset: str, metric: str, methods: pd.Index) -> pd.DataFrame:
    """Differences of ours to some methods, by method."""
    if differences is None:
        return pd.DataFrame()
    rows = differences[(differences["dataset"] == dataset) & (metric_keys(differences) == metric)]
    return rows[rows["method"].isin(methods) & rows["verdict"].isin(list(OUTCOMES))].set_index("method")


def _outcome(ours: pd.Series, best: pd.Series, lower_is_better: bool) -> str:
    if pd.isna([ours["ci_low"], ours["ci_high"], best["ci_low"], best["ci_high"]]).any():
        return "unknown"
    if ours["ci_low"] > best["ci_high"]:
        return "below" if lower_is_better else "above"
    if ours["ci_high"] < best["ci_low"]:
        return "above" if lower_is_better else "below"
    return "tied"
