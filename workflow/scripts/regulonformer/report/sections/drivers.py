"""The section on drivers: genes and TFs that speak for each class, and how far that can be trusted."""

from regulonformer.report.blocks import Note, Section, Studio, score_blocks
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.class_map import class_map
from regulonformer.report.figures.drivers import driver_bars, driver_heatmap, mean_attribution
from regulonformer.report.figures.regulons import regulon_network
from regulonformer.report.figures.stability import stability_dots
from regulonformer.report.questions import scored, task_of
from regulonformer.report.tables.drivers import (
    completeness_table,
    driver_table,
    driver_tf_table,
    enrichment_table,
    significant_driver_table,
)
from regulonformer.report.words.names import listed, slug, spoken

MARK = "A dot marks a false discovery rate of at most 5 % against permuted labels."
NETWORK_TFS = 12


def driver_section(evidence: Evidence, studio: Studio) -> Section:
    """Genes, TFs and regulons of each class."""
    section = Section(
        "drivers",
        "Drivers",
        "Which genes, through RNA or through accessibility, and which TFs the model uses to recognise a class. They "
        "are reasons of the model, not proven causes.",
    )
    tasks = [evidence.attribution, evidence.drivers, evidence.driver_tfs, evidence.regulon_influence]
    for task in dict.fromkeys(name for each in tasks for name in each):
        section.blocks += _genes(evidence, task, studio)
        section.blocks += _tfs(evidence, task, studio)
        section.blocks += _trust(evidence, task, studio)
    for question, dataset, scores in scored(evidence, "driver_scores"):
        section.blocks += score_blocks(scores, dataset, f"known drivers: {task_of(dataset)}", question.source, studio)
    return section


def _genes(evidence: Evidence, task: str, studio: Studio) -> list:
    """Genes that speak most for each class, by modality."""
    count, source = studio.settings["top_genes"], f"explain/{task}/attribution.parquet"
    blocks = []
    if task in evidence.attribution:
        mean = mean_attribution(evidence.attribution[task])
        if mean.empty or not (mean["attribution"] > 0).any():
            return []
        blocks += [
            studio.draw(
                driver_bars(mean, count),
                f"drivers_{slug(task)}",
                f"Strongest genes of each class: {spoken(task)}",
                caption=(
                    f"Genes that speak most for each class of {spoken(task)}. The length of a bar is the mean "
                    "contribution to the score of the class, blue from RNA and orange from accessibility."
                ),
                alt=f"Bar charts of the top driver genes per class of {spoken(task)}.",
                source=source,
            ),
            studio.draw(
                driver_heatmap(mean, 3 if mean["class"].nunique() <= 12 else 2),
                f"driver_map_{slug(task)}",
                f"Class-specific genes: {spoken(task)}",
                caption=(
                    "Class-specific genes (columns) against classes (rows). The darkest cell of a column is the "
                    "class in which that gene counts most; a clean diagonal means drivers of their own."
                ),
                alt=f"Heat maps of class-specific driver genes of {spoken(task)}, RNA and ATAC.",
                source=source,
            ),
        ]
        if task not in evidence.drivers:
            blocks.append(driver_table(mean, task, count))
    if task in evidence.drivers:
        blocks.append(significant_driver_table(evidence.drivers[task], task, count))
    return blocks


def _tfs(evidence: Evidence, task: str, studio: Studio) -> list:
    """Driver TFs, their network, attention to regulons, and sets that the drivers are rich in."""
    blocks, tfs = [], evidence.driver_tfs.get(task)
    if tfs is not None and not tfs.empty:
        first = tfs.sort_values(["rank", "score"], ascending=[True, False], kind="stable")
        chosen = list(dict.fromkeys(first["tf"]))[:NETWORK_TFS]
        blocks += [
            studio.draw(
                class_map(tfs, "tf", "score", _per_class(tfs), "score (z)"),
                f"driver_tfs_{slug(task)}",
                f"Driver TFs of each class: {spoken(task)}",
                caption=(
                    "TFs (columns) against classes (rows), coloured by the joint evidence of the TF's own "
                    f"contribution, that of its targets, and attention to its regulon. {MARK}"
                ),
                alt=f"Heat map of driver TFs per class of {spoken(task)}.",
                source=f"explain/{task}/driver_tfs.tsv",
            ),
            driver_tf_table(tfs, task),
            _network(evidence, chosen, task, studio),
        ]
    influence, rich = evidence.regulon_influence.get(task), evidence.enrichment.get(task)
    if influence is not None and not influence.empty:
        blocks.append(
            studio.draw(
                class_map(influence, "regulon", "z", _per_class(influence), "z over cells"),
                f"regulon_influence_{slug(task)}",
                f"Regulons that the model attends to: {spoken(task)}",
                caption=(
                    "Regulons (columns) that cells of a class (rows) attend to more than other cells. Attention shows "
                    f"where the model looks; it does not prove regulation. {MARK}"
                ),
                alt=f"Heat map of attention to regulons per class of {spoken(task)}.",
                source=f"explain/{task}/regulon_influence.tsv",
            )
        )
    if rich is not None and not rich.empty:
        blocks.append(enrichment_table(rich, task))
    return blocks


def _per_class(table) -> int:
    """Names per class on a heat map: fewer of more classes, so that they can be read."""
    return 4 if table["class"].nunique() <= 12 else 2


def _network(evidence: Evidence, tfs: list[str], task: str, studio: Studio):
    """The regulons of the driver TFs."""
    regulons = evidence.regulons
    tfs = [tf for tf in tfs if regulons is not None and (regulons["source"] == tf).any()]
    if not tfs:
        return None
    return studio.draw(
        regulon_network(regulons, tfs, targets_per_tf=7),
        f"driver_network_{slug(task)}",
        f"Regulons of the driver TFs: {spoken(task)}",
        caption=(
            "The first driver TFs of the classes (large discs) with the best-scored targets of their regulons; arrows "
            "activate, dashed lines with a bar repress."
        ),
        alt=f"Network of the regulons of {listed(tfs, NETWORK_TFS)}.",
        source=f"explain/{task}/driver_tfs.tsv, regulons/regulons.parquet",
    )


def _trust(evidence: Evidence, task: str, studio: Studio) -> list:
    """Stability, completeness, and agreement of gradients with attention."""
    blocks, stability = [], evidence.driver_stability.get(task)
    if stability is not None and not stability.empty:
        blocks.append(
            studio.draw(
                stability_dots(stability),
                f"stability_{slug(task)}",
                f"Do other models name the same genes? {spoken(task)}",
                caption=(
                    "Rank correlation of the genes' contributions between two models, mean over pairs of models (disc) "
                    "with its 95 % interval (band, where three folds or seeds tell one) and the worst pair (end of the "
                    "line). 1: the same order of genes; 0: nothing in common."
                ),
                alt=f"Rank correlations of attributions between seeds and folds, per class of {spoken(task)}.",
                source=f"explain/{task}/stability.tsv",
            )
        )
    if task in evidence.completeness:
        blocks.append(completeness_table(evidence.completeness[task], task))
    agreement = evidence.driver_agreement.get(task, {})
    if agreement.get("mean") is not None:
        words = (
            f"Contributions of TFs with their targets, and attention to their regulons, rank {agreement['tfs']} "
            f"TFs with a mean rank correlation of {agreement['mean']:.2f} over classes "
            f"(explain/{task}/agreement.json). Near 0 the two kinds of evidence have nothing to do with each "
            "other."
        )
        blocks.append(Note(f"Agreement of gradients and attention: {spoken(task)}", [words]))
    return blocks
