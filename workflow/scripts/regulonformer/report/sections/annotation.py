"""The section on predicted labels: scores with baselines, where the model goes wrong, and whether it knows."""

import pandas as pd

from regulonformer.report.blocks import Section, Studio, score_blocks
from regulonformer.report.comparison import compare, our_method, pooled_scores
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.classes import confusion, confusion_counts, recall_plot
from regulonformer.report.figures.learning import learning_curve
from regulonformer.report.figures.reliability import reliability_of_methods
from regulonformer.report.questions import scored, task_of
from regulonformer.report.tables.scores import class_table, difference_table, learning_table
from regulonformer.report.words.names import method_name, slug, spoken


def annotation_section(evidence: Evidence, studio: Studio) -> Section:
    """Scores with baselines, classes one by one, calibration, and learning from few labels."""
    section = Section(
        "annotation",
        "Prediction of labels",
        "Every score is on cells of folds that neither the model's adapters nor the baselines were trained on.",
    )
    for question, dataset, scores in scored(evidence, "annotation"):
        judged = f"held-out cells: {spoken(task_of(dataset))}"
        section.blocks += score_blocks(scores, dataset, judged, question.source, studio)
        if evidence.differences is not None:
            section.blocks.append(
                difference_table(evidence.differences, dataset, "evaluate/annotation_differences.tsv")
            )
        section.blocks += _classes(evidence, dataset, scores, studio)
        section.blocks += _calibration(evidence, dataset, scores, studio)
    section.blocks += _learning(evidence, studio)
    return section


def _classes(evidence: Evidence, dataset: str, scores: pd.DataFrame, studio: Studio) -> list:
    """Confusion matrix and recall of each class."""
    ours, task, blocks = our_method(scores["method"]), task_of(dataset), []
    matrix = (evidence.confusion or {}).get(dataset, {}).get(ours)
    recall = evidence.recall
    recall = recall[recall["dataset"] == dataset] if recall is not None else None
    if matrix:
        blocks.append(
            studio.draw(
                confusion(confusion_counts(matrix)),
                f"confusion_{slug(task)}",
                f"Confusion: {spoken(task)}",
                caption=(
                    f"Our model on {spoken(task)}: each row is a true class, and its numbers say what percentage of it "
                    "was predicted as what, over all seeds. A perfect model fills the diagonal only."
                ),
                alt=f"Confusion matrix of our model on {spoken(task)}, rows in percent.",
                source="evaluate/confusion.json",
            )
        )
    if recall is not None and len(recall):
        rival = _rival(scores, dataset)
        named = f", orange discs {method_name(rival)}, the best baseline" if rival else ""
        blocks += [
            studio.draw(
                recall_plot(recall, ours, rival),
                f"recall_{slug(task)}",
                f"Recall of each class, rare ones last: {spoken(task)}",
                caption=(
                    "Share of the cells of each class that was found, classes from the most frequent to the rarest. "
                    f"Diamonds are ours with their intervals{named}, grey dots the other methods. Rare classes decide "
                    "macro-F1, and their intervals are wide."
                ),
                alt=f"Recall with intervals of every class of {spoken(task)}, for our model and the baselines.",
                source="evaluate/recall.tsv",
            ),
            class_table(recall, ours, rival, confusion_counts(matrix) if matrix else None, task),
        ]
    return blocks


def _rival(scores: pd.DataFrame, dataset: str) -> str | None:
    """The best baseline by macro-F1."""
    found = compare(pooled_scores(scores), dataset, "macro_f1")
    return found.best.name if found and found.best is not None else None


def _calibration(evidence: Evidence, dataset: str, scores: pd.DataFrame, studio: Studio) -> list:
    """Whether the confidence of a prediction is the chance that it is right."""
    table = evidence.reliability
    table = table[table["dataset"] == dataset] if table is not None else None
    if table is None or table.empty:
        return []
    task, pooled = task_of(dataset), pooled_scores(scores)
    errors = pooled[pooled["metric"] == "ece"].set_index("method")["value"]
    return [
        studio.draw(
            reliability_of_methods(table, our_method(table["method"]), _rival(scores, dataset), errors),
            f"reliability_{slug(task)}",
            f"Does confidence hold what it says? {spoken(task)}",
            caption=(
                "Left: predictions binned by confidence, each point a bin; on the dotted line a confidence of 0.8 is "
                "right in eight cells of ten, below it the method claims too much. Right: the calibration error (ECE), "
                "the mean gap to that line, of all methods; shorter is better, and 0.05 is marked."
            ),
            alt=f"Reliability diagram and calibration error of all methods on {spoken(task)}.",
            source="evaluate/reliability.tsv, annotation.tsv",
        )
    ]


def _learning(evidence: Evidence, studio: Studio) -> list:
    """Scores by the number of labels per class that were trained on."""
    table = evidence.learning_curve
    if table is None or table.empty:
        return []
    blocks = []
    for dataset in dict.fromkeys(table["dataset"]):
        task = task_of(dataset)
        mine = table[table["dataset"] == dataset]
        blocks.append(
            studio.draw(
                learning_curve(mine),
                f"learning_curve_{slug(task)}",
                f"Learning from few labels: {spoken(task)}",
                caption=(
                    "Scores on the same held-out cells against the number of labelled cells per class that were "
                    "trained on; lines are intervals. Where our curve starts above the others, pretraining spares "
                    "labels; where all curves meet, it does not matter any more."
                ),
                alt=f"Scores on {spoken(task)} against the number of labels per class, one curve per method.",
                source="evaluate/learning_curve.tsv",
            )
        )
        blocks.append(learning_table(mine, f"learning_{slug(task)}", spoken(task)))
    return blocks
