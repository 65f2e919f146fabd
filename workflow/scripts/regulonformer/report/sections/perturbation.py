"""The section on perturbations: TFs knocked out and over-expressed in the model."""

import pandas as pd

from regulonformer.report.blocks import Section, Studio, score_blocks
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.perturbation import EVERY_GROUP, answering_genes, ranked_tfs, tfs_by_group
from regulonformer.report.questions import paired_differences, scored
from regulonformer.report.tables.perturbation import perturbed_tf_table
from regulonformer.report.tables.scores import difference_table
from regulonformer.report.words.names import listed, spoken

NAMED, MAPPED, GENES = 8, 8, 12


def perturbation_section(evidence: Evidence, studio: Studio) -> Section:
    """Which TFs move cells, which genes answer, and whether predicted changes come true."""
    section = Section(
        "perturbation",
        "Perturbations",
        "Transcription factors knocked out or over-expressed in the model, one at a time, all else as measured: how "
        "far the cells move, and which genes are predicted to answer. A prediction, not an experiment.",
    )
    tfs, targets = evidence.perturbed_tfs, evidence.perturbed_targets
    if tfs is not None and not tfs.empty:
        section.blocks += _tfs(tfs, studio)
    if tfs is not None and targets is not None and not targets.empty:
        section.blocks += _targets(tfs, targets, studio)
    parts = scored(evidence, "perturbation")
    differences = paired_differences(evidence, parts[0][0]) if parts else None
    for question, dataset, scores in parts:
        judged = question.judged(dataset)
        section.blocks += score_blocks(scores, dataset, judged, question.source, studio)
        section.blocks += [difference_table(differences, dataset, question.source)] if differences is not None else []
    return section


def _tfs(tfs: pd.DataFrame, studio: Studio) -> list:
    null = (
        "The null are genes that are no TFs and expressed as much; blue points are beyond it at a false discovery rate "
        "of 5 %."
    )
    return [
        studio.draw(
            ranked_tfs(tfs, NAMED),
            "perturbed_tfs",
            "TFs by how far they move cells",
            caption=(
                "Each point is a TF, ranked by how far its perturbation changes the cell embedding beyond that of "
                f"matched genes, as z. {null}"
            ),
            alt=f"TFs ranked by the change of the cell embedding; the first are named: {listed(_first(tfs, NAMED))}.",
            source="explain/perturb/tfs.parquet",
        ),
        studio.draw(
            tfs_by_group(tfs, 3),
            "perturbed_tfs_by_group",
            "TFs that move each group of cells",
            caption=(
                "For each group (rows) the TFs whose perturbation moves its cells most (columns), as z against matched "
                "genes: orange more than they do, purple less."
            ),
            alt="Heat map of the change by each TF in each group of cells.",
            source="explain/perturb/tfs.parquet",
        ),
        perturbed_tf_table(tfs),
    ]


def _first(tfs: pd.DataFrame, count: int) -> list[str]:
    """TFs of the largest z, over all groups, of the first direction."""
    rows = tfs[(tfs["group"] == EVERY_GROUP) & (tfs["direction"] == tfs["direction"].iloc[0])]
    return rows.nlargest(count, "z")["tf"].tolist()


def _targets(tfs: pd.DataFrame, targets: pd.DataFrame, studio: Studio) -> list:
    direction = tfs["direction"].iloc[0]
    return [
        studio.draw(
            answering_genes(targets, _first(tfs, MAPPED), direction, GENES),
            "perturbed_targets",
            f"Genes that answer to a {spoken(direction)}",
            caption=(
                f"For the TFs that move cells most, the genes whose predicted expression changes most by "
                f"{spoken(direction)}, judged by z against matched genes: blue up, orange down. Direct targets of the "
                "regulon are in full colour and in bold."
            ),
            alt="Bar charts of the predicted change of expression by gene, one panel per TF.",
            source="explain/perturb/targets.parquet",
        )
    ]
