"""The section on translation: one modality predicted from the other."""

from regulonformer.report.blocks import Note, Section, Studio, score_blocks
from regulonformer.report.evidence import Evidence
from regulonformer.report.questions import paired_differences, part_of, scored
from regulonformer.report.tables.scores import difference_table


def translation_section(evidence: Evidence, studio: Studio) -> Section:
    """Scores of predicted peaks and genes."""
    section = Section(
        "translation",
        "Translation",
        "One modality predicted from the other in held-out cells, beside the mean profile, neighbours and linear maps.",
    )
    for question, dataset, scores in scored(evidence, "translation"):
        on = f"held-out cells: {part_of(dataset)}" if part_of(dataset) else "held-out cells"
        section.blocks += score_blocks(scores, dataset, on, question.source, studio)
        differences = paired_differences(evidence, question)
        section.blocks += [difference_table(differences, dataset, question.source)] if differences is not None else []
    if section.blocks:
        reading = (
            "A correlation over the features of a cell, or of pooled cells, is high for every method, because some "
            "genes and peaks are high in all cells: the mean profile has it too. What differs between cells is seen by "
            "scores per peak or gene across cells."
        )
        section.blocks.append(Note("How to read these scores", [reading]))
    return section
