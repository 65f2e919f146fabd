"""The questions that the run answers by scores beside simple methods: which table, which section, which words."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from regulonformer.io.scores import FROM_OTHERS
from regulonformer.report.comparison import (
    Comparison,
    compare,
    differences_among,
    metrics_in_order,
    pooled_scores,
    without_gaps,
)
from regulonformer.report.evidence import Evidence
from regulonformer.report.words.names import capital, spoken

COLUMNS = ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"]
MAX_PERTURBATIONS = 4  # more perturbations than these are shown by their mean


def task_of(dataset: str) -> str:
    """Task of a `dataset` written as run:task; the run itself where there is none."""
    return dataset.rsplit(":", 1)[-1].strip()


def judged_on(dataset: str) -> str:
    """What the prior was judged on: `run: TF-gene, gold standard` is `TF-gene pairs (gold standard)`."""
    pairs, _, standard = task_of(dataset).partition(", ")
    return f"{pairs} pairs ({standard})" if standard else pairs


def part_of(dataset: str) -> str:
    """What stands after the run in `run:part`, or nothing."""
    return spoken(task_of(dataset)) if ":" in dataset else ""


@dataclass(frozen=True)
class Question:
    """One table of scores.

    Attributes
    ----------
    table
        Field of `Evidence` with the scores.
    source
        File of the scores.
    section
        Anchor of the section that shows them.
    topic
        Heading of what was found on a dataset.
    judged
        What a dataset was judged on, as it stands inside a sentence.
    reaches
        How the sentence begins.
    differences
        Field of `Evidence` with paired differences, if there are any.
    """

    table: str
    source: str
    section: str
    topic: Callable[[str], str]
    judged: Callable[[str], str]
    reaches: str = "Our model reaches"
    differences: str | None = None


def _after(noun: str) -> Callable[[str], str]:
    """A noun with the part of the run that it is about."""
    return lambda dataset: f"{noun}: {part_of(dataset)}" if part_of(dataset) else noun


QUESTIONS = (
    Question(
        "annotation",
        "evaluate/annotation.tsv",
        "annotation",
        lambda dataset: f"Predicting {spoken(task_of(dataset))}",
        lambda dataset: "held-out cells",
        differences="differences",
    ),
    Question(
        "regression",
        "evaluate/regression.tsv",
        "regression",
        lambda dataset: f"Predicting {spoken(task_of(dataset))}",
        lambda dataset: "held-out cells",
    ),
    Question(
        "translation",
        "evaluate/translation.tsv",
        "translation",
        _after("Translation"),
        lambda dataset: "held-out cells",
    ),
    Question(
        "embedding_scores",
        "evaluate/embedding.tsv",
        "embedding",
        _after("Embedding"),
        lambda dataset: "the embedded cells",
        "Our embedding reaches",
    ),
    Question(
        "grn",
        "evaluate/grn.tsv",
        "regulons",
        lambda dataset: capital(judged_on(dataset)),
        judged_on,
        "Our prior reaches",
    ),
    Question(
        "driver_scores",
        "evaluate/drivers.tsv",
        "drivers",
        _after("Drivers"),
        lambda dataset: "known drivers",
        "Our drivers reach",
    ),
    Question(
        "perturbation",
        "evaluate/perturbation.tsv",
        "perturbation",
        lambda dataset: f"Perturbation: {task_of(dataset)}",
        lambda dataset: "perturbed cells",
    ),
)


@dataclass
class Answer:
    """What a question found on one dataset, by its leading metric; `others` are the comparisons by other metrics."""

    question: Question
    dataset: str
    comparison: Comparison
    others: list[Comparison]


def answers(evidence: Evidence) -> list[Answer]:
    """Compare our model with the best baseline, once per question and dataset in which it was scored."""
    found = []
    for question in QUESTIONS:
        differences = paired_differences(evidence, question)
        for _, dataset, rows in scored(evidence, question.table):
            scores = pooled_scores(rows)
            compared = [compare(scores, dataset, metric, differences) for metric in metrics_in_order(scores)]
            compared = [item for item in compared if item]
            if compared:
                found.append(Answer(question, dataset, compared[0], compared[1:]))
    return found


def scored(evidence: Evidence, name: str) -> list[tuple[Question, str, pd.DataFrame]]:
    """Question, dataset and rows of one table of scores, dataset by dataset.

    Of drivers the mean over branches counts, and many perturbations are shown as one dataset (`averaged`).
    """
    question = next(question for question in QUESTIONS if question.table == name)
    table = _table(evidence, name)
    if table is None:
        return []
    table = without_gaps(table)
    table = table[table["branch"] == "all"] if "branch" in table else table
    return [(question, dataset, table[table["dataset"] == dataset]) for dataset in dict.fromkeys(table["dataset"])]


def paired_differences(evidence: Evidence, question: Question) -> pd.DataFrame | None:
    """Ours less each method on the same resamples, from a table of its own or from the scores; None without."""
    if question.differences:
        return getattr(evidence, question.differences)
    table = _table(evidence, question.table)
    return None if table is None else differences_among(table)


def _table(evidence: Evidence, name: str) -> pd.DataFrame | None:
    """A table of scores, many perturbations as one dataset; None where there are no scores."""
    table = getattr(evidence, name)
    if table is None or table.empty:
        return None
    if name != "perturbation":
        return table
    parts = [part for _, part in table.groupby(table["dataset"].str.endswith(FROM_OTHERS))]
    shown = [averaged(part) if part["dataset"].nunique() > MAX_PERTURBATIONS else part for part in parts]
    return pd.concat(shown, ignore_index=True)


def averaged(table: pd.DataFrame) -> pd.DataFrame:
    """Means over datasets, with intervals over datasets by Student's t; single datasets stand in for folds."""
    pooled = table[table["fold"] == "pooled"]
    first = pooled["dataset"].iloc[0]
    together = f"{first.split(':')[0]}: {pooled['dataset'].nunique()} perturbations"
    together += FROM_OTHERS if first.endswith(FROM_OTHERS) else ""
    means = pooled.groupby(["method", "metric"])["value"].agg(["mean", "sem", "count"]).reset_index()
    half = means["sem"] * stats.t.ppf(0.975, (means["count"] - 1).clip(lower=1))
    means = means.assign(value=means["mean"], ci_low=means["mean"] - half, ci_high=means["mean"] + half)
    means = means.assign(dataset=together, fold="pooled", seed="all")[COLUMNS]
    single = pooled.assign(fold=pooled["dataset"], dataset=together, ci_low=float("nan"), ci_high=float("nan"))
    return pd.concat([means, single[COLUMNS]], ignore_index=True)
