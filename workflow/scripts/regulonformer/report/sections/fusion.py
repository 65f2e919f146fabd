"""The section on fusion: what RNA, accessibility, and both together are worth."""

from regulonformer.report.blocks import Note, Section, Studio
from regulonformer.report.comparison import metrics_in_order, pooled_scores
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.fusion import modality_plot
from regulonformer.report.modalities import modality_differences, what_it_sees
from regulonformer.report.questions import scored, task_of
from regulonformer.report.words.comparison import signed
from regulonformer.report.words.names import score_name, slug, spoken


def fusion_section(evidence: Evidence, studio: Studio) -> Section:
    """Methods by the modalities that they see."""
    section = Section(
        "fusion", "RNA, ATAC, and both", "The same methods with one modality and with both, on the same held-out cells."
    )
    for question, dataset, scores in scored(evidence, "annotation"):
        pooled, task = pooled_scores(scores), task_of(dataset)
        families = what_it_sees(scores["method"].unique())
        if families.empty:
            continue
        section.blocks.append(
            studio.draw(
                modality_plot(pooled, families, metrics_in_order(pooled)[:2]),
                f"fusion_{slug(task)}",
                f"What each modality is worth: {spoken(task)}",
                caption=(
                    "Each row is a method, each mark what it was given; lines are intervals. Where the diamond lies "
                    "right of both others, the two modalities say more together than the better one alone."
                ),
                alt=f"Scores on {spoken(task)} with RNA, with ATAC and with both, by method.",
                source=question.source,
            )
        )
    words = {"wins": "both are better", "ties": "a tie", "loses": "one alone is better"}
    for dataset, rows in modality_differences(evidence):
        items = [
            f"{score_name(row['metric'])} with both less {row['sees']} alone: {signed(row)}, {words[row['verdict']]}."
            for _, row in rows.iterrows()
        ]
        items.append("From evaluate/annotation_differences.tsv.")
        section.blocks.append(Note(f"Both modalities against one, in our model: {spoken(task_of(dataset))}", items))
    return section
