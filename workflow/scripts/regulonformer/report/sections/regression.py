"""The section on predicted numbers: pseudotime, dose, time."""

from regulonformer.report.blocks import Section, Studio, score_blocks
from regulonformer.report.evidence import Evidence
from regulonformer.report.questions import scored, task_of
from regulonformer.report.words.names import spoken


def regression_section(evidence: Evidence, studio: Studio) -> Section:
    """Scores beside simple regressions."""
    section = Section(
        "regression",
        "Prediction of numbers",
        "Numbers of cells, such as pseudotime, dose or time, predicted in folds that no method was trained on.",
    )
    for question, dataset, scores in scored(evidence, "regression"):
        judged = f"held-out cells: {spoken(task_of(dataset))}"
        section.blocks += score_blocks(scores, dataset, judged, question.source, studio)
    return section
