"""The section on the embedding: how well spaces keep what is biology and mix what is technical."""

from regulonformer.report.blocks import Section, Studio, score_blocks
from regulonformer.report.comparison import pooled_scores
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.heatmap import score_heatmap
from regulonformer.report.questions import part_of, scored, task_of
from regulonformer.report.words.names import slug


def embedding_section(evidence: Evidence, studio: Studio) -> Section:
    """Metrics of every space."""
    section = Section(
        "embedding",
        "Embedding",
        "How well the cell embedding keeps cell types apart and mixes libraries, beside linear and corrected spaces.",
    )
    for question, dataset, scores in scored(evidence, "embedding_scores"):
        on = f"the embedded cells: {part_of(dataset)}" if part_of(dataset) else "the embedded cells"
        section.blocks += [
            studio.draw(
                score_heatmap(pooled_scores(scores)),
                f"embedding_metrics_{slug(task_of(dataset))}",
                "Spaces against metrics",
                caption=(
                    "Each row is a space, each column a metric, from 0 to 1 with 1 the best; the darker, the "
                    "better within the column. Biology kept is the mean of NMI, ARI, ASW of labels and cLISI: "
                    "do cells of one type lie together? Libraries mixed is that of the others. A space that "
                    "wins the one by losing the other is no better."
                ),
                alt="Heat map of the metrics of every space.",
                source=question.source,
            ),
            *score_blocks(scores, dataset, on, question.source, studio),
        ]
    return section
