"""The table that opens the report: each question, our score, the best simple method, and who is ahead."""

from pathlib import Path

import pandas as pd

from regulonformer.report.questions import Answer
from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import inside, listed, method_name, score_name

VERDICTS = {"above": "▲ ahead", "tied": "= tie", "below": "▼ behind", "unknown": "undecided", "alone": "undecided"}


def results_table(found: list[Answer]) -> Table | None:
    """One row per question and dataset, by its leading metric.

    Parameters
    ----------
    found
        Comparisons of ours with the best baseline.
    """
    if not found:
        return None
    rows = [_row(answer) for answer in found]
    caption = (
        "Our score and that of the best simple method on the same cells or pairs, by the leading metric of "
        "each question. Ahead and behind are said where the interval of the difference is clear of 0, or, "
        "where only single scores have intervals, where these are apart. The last column names the tables "
        "behind a row."
    )
    columns = ["Question", "Verdict", "Ours", "Best simple method", "Its score", "Difference", "Table"]
    return Table("results", "Ours against the best simple method", columns, rows, caption, "evaluate/")


def _row(answer: Answer) -> list[str]:
    comparison, question = answer.comparison, answer.question
    best = comparison.best
    difference = "–" if best is None else f"{comparison.ours['value'] - best['value']:+z.3f}"
    sources = [Path(question.source).name]
    if comparison.difference is not None:
        difference = _written(comparison.difference, "+z.3f")
        sources += ["annotation_differences.tsv"] if question.differences else []
    return [
        f"{question.topic(answer.dataset)}: {inside(score_name(comparison.metric))}",
        VERDICTS[comparison.outcome],
        _written(comparison.ours, ".3f"),
        "–" if best is None else method_name(best.name),
        "–" if best is None else _written(best, ".3f"),
        difference,
        listed(sources),
    ]


def _written(row: pd.Series, form: str) -> str:
    interval = "" if pd.isna(row["ci_low"]) else f" [{row['ci_low']:{form}}, {row['ci_high']:{form}}]"
    return f"{row['value']:{form}}{interval}"
