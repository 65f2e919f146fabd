"""What the tables of scores and differences say, in words: wins, ties and losses of the model."""

import pandas as pd

from regulonformer.evaluate.metrics import LOWER_IS_BETTER

WORDS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "ece": "calibration error",
}
VERDICTS = ("wins", "ties", "loses")


def count_verdicts(differences: pd.DataFrame) -> pd.DataFrame:
    """Count wins, ties and losses of the model.

    Parameters
    ----------
    differences
        Table of `evaluate/annotation_differences.tsv`.

    Returns
    -------
    pandas.DataFrame
        dataset, metric, wins, ties, loses: numbers of other methods.
    """
    counts = pd.crosstab([differences["dataset"], differences["metric"]], differences["verdict"])
    return counts.reindex(columns=VERDICTS, fill_value=0).rename_axis(columns=None).reset_index()


def best_rivals(scores: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """The best other method of each data set and metric, and the difference of the model to it.

    It is chosen on the same cells, which flatters it and not the model.

    Parameters
    ----------
    scores
        Table of `evaluate/annotation.tsv`.
    differences
        Table of `evaluate/annotation_differences.tsv`.

    Returns
    -------
    pandas.DataFrame
        dataset, metric, method, rival (its score), ours, value, ci_low, ci_high, verdict.
    """
    means = scores[(scores["fold"] == "pooled") & (scores["seed"] == "all")]
    table = differences.merge(
        means[["method", "dataset", "metric", "value"]].rename(columns={"value": "rival"}),
        on=["method", "dataset", "metric"],
    )
    table["ours"] = table["rival"] + table["value"]
    loss = table["rival"].where(table["metric"].isin(LOWER_IS_BETTER), -table["rival"])
    best = (
        table.assign(loss=loss).sort_values(["loss", "method"]).groupby(["dataset", "metric"], as_index=False).first()
    )
    columns = ["dataset", "metric", "method", "rival", "ours", "value", "ci_low", "ci_high", "verdict"]
    return best[columns]


def in_words(
    scores: pd.DataFrame, differences: pd.DataFrame, ours: str, metrics=("macro_f1", "accuracy", "ece")
) -> list[str]:
    """State wins, ties and losses, one sentence per data set and metric; variants of the model are no rivals.

    Parameters
    ----------
    scores, differences
        Tables of `evaluate/annotation.tsv` and `evaluate/annotation_differences.tsv`.
    ours
        Name of the model; its variants are called the same, a comma and what differs.
    metrics
        Metrics in the order in which they are told.
    """
    sentences = []
    differences = differences[~differences["method"].str.startswith(f"{ours}, ")]
    for dataset, part in differences.groupby("dataset", sort=True):
        counts = count_verdicts(part).set_index("metric")
        rivals = best_rivals(scores[scores["dataset"] == dataset], part).set_index("metric")
        for metric in metrics:
            wins, ties, losses = counts.loc[metric, list(VERDICTS)]
            rival = rivals.loc[metric]
            outcome = {"wins": "it wins", "loses": "it loses", "ties": "a tie"}[rival["verdict"]]
            sentences.append(
                f"{dataset}, {WORDS[metric]}: the model wins against {wins}, ties with {ties} and loses to {losses} of "
                f"{wins + ties + losses} other methods. Against the best of them, {rival['method']} "
                f"({rival['rival']:.3f}), it has {rival['ours']:.3f}, a difference of {rival['value']:+.3f} "
                f"[{rival['ci_low']:+.3f}, {rival['ci_high']:+.3f}]: {outcome}."
            )
    return sentences
