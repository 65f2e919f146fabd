"""Tables of scores: methods beside each other, classes one by one."""

from pathlib import Path

import pandas as pd

from regulonformer.report.comparison import LOWER_IS_BETTER, is_ours, methods_in_order, metrics_in_order, pooled_scores
from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import (
    capital,
    inside,
    method_name,
    number,
    percent,
    rounded,
    score_name,
    slug,
    spoken,
)

SIGNS = {"wins": "▲", "ties": "=", "loses": "▼"}


def score_table(table: pd.DataFrame, name: str, judged: str, source: str) -> Table:
    """Method x metric, pooled over folds, with intervals; the best of each column is starred.

    Parameters
    ----------
    table
        Tidy scores of one dataset.
    name
        Anchor of the table.
    judged
        What the scores are on, in words.
    source
        File of the scores.
    """
    scores = pooled_scores(table)
    metrics, methods = metrics_in_order(scores), methods_in_order(scores)
    cells = {(row.method, row.metric): row for row in scores.itertuples()}
    best = {}
    for metric, values in scores.groupby("metric")["value"]:
        best[metric] = values.min() if metric in LOWER_IS_BETTER else values.max()
        # One method alone is not the best of anything.
        best[metric] = best[metric] if values.count() > 1 else None
    rows = [
        [method_name(method), *(_score(cells.get((method, metric)), best[metric]) for metric in metrics)]
        for method in methods
    ]
    strong = {position for position, method in enumerate(methods) if is_ours(method)}
    intervals = ", with confidence intervals in brackets" if scores["ci_low"].notna().any() else ""
    caption = f"Scores on {judged}{intervals}; ★ marks the best value of a column. Ours is in bold."
    columns = ["Method", *map(score_name, metrics)]
    return Table(name, capital(f"scores on {judged}"), columns, rows, caption, source, strong)


def _score(row, best: float | None) -> str:
    if row is None or pd.isna(row.value):
        return "–"
    star = " ★" if row.value == best else ""
    interval = "" if pd.isna(row.ci_low) else f" [{rounded(row.ci_low):.3f}, {rounded(row.ci_high):.3f}]"
    return f"{rounded(row.value):.3f}{star}{interval}"


def difference_table(differences: pd.DataFrame, dataset: str, source: str) -> Table | None:
    """Ours less every other method on the same resampled cells, and what that says.

    Parameters
    ----------
    differences
        method, dataset, metric, value, ci_low, ci_high, verdict.
    dataset
        Which dataset to show.
    source
        File of the differences.
    """
    mine = differences[differences["dataset"] == dataset]
    if mine.empty:
        return None
    metrics = metrics_in_order(mine)
    cells = {(row.method, row.metric): row for row in mine.itertuples()}
    leading = mine[mine["metric"] == metrics[0]].sort_values("value", kind="stable")
    rows = [
        [method_name(method), *(_difference(cells.get((method, metric))) for metric in metrics)]
        for method in leading["method"]
    ]
    caption = (
        "Our score less that of each method, with intervals from drawing the same cells and seeds for both. ▲ "
        "and ▼: the interval is clear of 0, we win or lose; =: it is not, a tie. Methods named as ours are "
        "variants of our model. Of errors, where lower is better, a negative difference is a win."
    )
    columns = ["Ours less …", *map(score_name, metrics)]
    part = spoken(dataset.rsplit(":", 1)[-1].strip())
    name = f"differences_{slug(Path(source).stem)}_{slug(part)}"
    return Table(name, f"Wins, ties and losses: {part}", columns, rows, caption, source)


def _difference(row) -> str:
    if row is None or pd.isna(row.value):
        return "–"
    interval = "" if pd.isna(row.ci_low) else f" [{rounded(row.ci_low):+.3f}, {rounded(row.ci_high):+.3f}]"
    return f"{rounded(row.value):+.3f} {SIGNS.get(row.verdict, '')}".rstrip() + interval


def learning_table(table: pd.DataFrame, name: str, task: str) -> Table:
    """Leading metric of every method by the number of labels per class, with verdicts of ours against each.

    Parameters
    ----------
    table
        Tidy scores of one dataset with labels_per_class, and verdict (of ours less the method) where there is one.
    name
        Anchor of the table.
    task
        Name of the task.
    """
    table = table[(table["fold"] == "pooled") & (table["seed"] == "all")]
    metric = metrics_in_order(table)[0]
    table = table[table["metric"] == metric].assign(labels=lambda rows: pd.to_numeric(rows["labels_per_class"]))
    numbers = sorted(table["labels"].unique())
    best = table.groupby("labels")["value"].max()
    cells = {(row.method, row.labels): row for row in table.itertuples()}
    first = table[table["labels"] == numbers[0]].sort_values("value", ascending=False, kind="stable")
    methods = [*first["method"], *sorted(set(table["method"]) - set(first["method"]))]
    rows = [
        [method_name(method), *(_learned(cells.get((method, labels)), best[labels]) for labels in numbers)]
        for method in methods
    ]
    caption = (
        f"{score_name(metric)} on the same held-out cells, by the number of labelled cells per class that were "
        "trained on; ★ marks the best of a column. ▲, = and ▼: ours wins, ties or loses against the method, by "
        "their difference on the same resamples."
    )
    columns = ["Method", *(f"{labels:g} labels" for labels in numbers)]
    strong = {position for position, method in enumerate(methods) if is_ours(method)}
    heading = f"Learning from few labels: {task}"
    return Table(name, heading, columns, rows, caption, "evaluate/learning_curve.tsv", strong)


def _learned(row, best: float) -> str:
    if row is None or pd.isna(row.value):
        return "–"
    mark = "★" if row.value == best else SIGNS.get(getattr(row, "verdict", None), "")
    return f"{row.value:.3f} {mark}".rstrip() + (
        "" if pd.isna(row.ci_low) else f" [{row.ci_low:.3f}, {row.ci_high:.3f}]"
    )


def class_table(recall: pd.DataFrame, ours: str, rival: str | None, counts: pd.DataFrame | None, task: str) -> Table:
    """Recall and precision of each class, rare classes last.

    Parameters
    ----------
    recall
        method, class, n_cells, recall, precision, ci_low, ci_high of one dataset.
    ours, rival
        Our method and the best baseline.
    counts
        Our confusion matrix, true classes in rows, or None.
    task
        Name of the task.
    """
    mine = recall[(recall["method"] == ours) & (recall["n_cells"] > 0)].sort_values(
        ["n_cells", "class"], ascending=[False, True]
    )
    theirs = recall[recall["method"] == rival].set_index("class")["recall"]
    rows = [
        [
            row["class"],
            number(int(row["n_cells"])),
            f"{row['recall']:.3f}"
            + ("" if pd.isna(row["ci_low"]) else f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"),
            *([f"{theirs.get(row['class'], float('nan')):.3f}"] if rival else []),
            "–" if pd.isna(row["precision"]) else f"{row['precision']:.3f}",
            _most_mistaken(counts, row["class"]),
        ]
        for _, row in mine.iterrows()
    ]
    caption = (
        "Share of each class that was found (recall) with its interval, share of its predictions that were right "
        "(precision), and the most frequent mistake, over folds and seeds. Rare classes stand last."
    )
    columns = ["Class", "Cells", "Recall", *([f"Recall, {inside(method_name(rival))}"] if rival else []), "Precision"]
    columns.append("Most often mistaken for")
    source = "evaluate/recall.tsv, confusion.json"
    return Table(f"classes_{slug(task)}", f"Class by class: {spoken(task)}", columns, rows, caption, source)


def _most_mistaken(counts: pd.DataFrame | None, name: str) -> str:
    if counts is None or name not in counts.index:
        return "–"
    row = counts.loc[name]
    wrong = row.drop(name, errors="ignore")
    return f"{wrong.idxmax()} ({percent(wrong.max(), row.sum())})" if len(wrong) and wrong.max() > 0 else "–"
