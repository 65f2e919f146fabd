"""The sections of the report: which figures and tables stand where, and how to read them."""

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.report import figures_cells, figures_drivers, figures_model, figures_qc, floors, tables
from regulonformer.report.blocks import Note, Section, Studio, score_blocks
from regulonformer.report.evidence import Evidence
from regulonformer.report.model_section import model_section
from regulonformer.report.names import column_name, listed, slug, spoken
from regulonformer.report.regulon_section import regulon_section
from regulonformer.report.text import pretraining_gain, task_of


def task_columns(evidence: Evidence, config: dict) -> dict[str, str]:
    """Task -> column of the cells that it predicts."""
    columns = {task: block["column"] for task, block in (config.get("tasks") or {}).items() if block.get("column")}
    columns |= {
        task: records[0]["column"] for task, records in evidence.task_records.items() if records[0].get("column")
    }
    return columns


def sections(evidence: Evidence, config: dict, studio: Studio) -> list[Section]:
    """Build the sections that have something to show, in the order of the page."""
    columns = task_columns(evidence, config)
    built = [
        data_section(evidence, studio),
        cell_section(evidence, studio, columns),
        regulon_section(evidence, studio, columns),
        model_section(evidence),
        pretraining_section(evidence, studio),
        annotation_section(evidence, studio),
        driver_section(evidence, studio),
    ]
    for section in built:
        section.blocks = [block for block in section.blocks if block is not None]
    return [section for section in built if section.blocks]


def data_section(evidence: Evidence, studio: Studio) -> Section:
    """Quality control and everything that was filtered."""
    section = Section(
        "data", "Data and quality control", "What came in, which barcodes count as cells, and what was removed and why."
    )
    if evidence.qc:
        section.blocks += [tables.library_table(evidence.qc), tables.reason_table(evidence.qc)]
    if evidence.cells is not None:
        section.blocks += _cell_quality(evidence, studio)
    if evidence.qc:
        section.blocks += [
            studio.draw(
                figures_qc.fragment_profiles(evidence.qc),
                "fragment_profiles",
                "Left: fragment lengths; good ATAC libraries show a tall nucleosome-free part and a second hump "
                "near 200 bp. "
                "Right: Tn5 cuts around transcription start sites, as fold over the flanks; a sharp central peak "
                "means signal over noise.",
                "Line plots of fragment length and of cuts around transcription start sites, one line per library.",
            ),
            tables.threshold_table(evidence.qc),
        ]
    if evidence.peaks_summary:
        section.blocks.append(
            tables.filter_table("peaks_summary", "Peaks", evidence.peaks_summary, "features/peaks.json")
        )
    if evidence.counts:
        section.blocks.append(tables.count_table(evidence.counts))
    if evidence.merge_summary:
        section.blocks.append(
            tables.filter_table(
                "merge_summary", "Genes, peaks and cells after merging", evidence.merge_summary, "features/merge.json"
            )
        )
    if notes := [f"{record['sample']}: {note}" for record in evidence.qc for note in record.get("notes", [])]:
        section.blocks.append(Note("Notes per library", notes))
    if evidence.validation and evidence.validation.get("findings"):
        section.blocks.append(tables.findings_table(evidence.validation["findings"]))
    return section


def _cell_quality(evidence: Evidence, studio: Studio) -> list:
    thresholds = {record["sample"]: record.get("thresholds", {}) for record in evidence.qc}
    return [
        studio.draw(
            figures_qc.barcode_fates(evidence.cells),
            "barcode_fates",
            "Each bar is a library: the grey part was kept, coloured parts were removed for the reason named.",
            "Stacked bars: share of barcodes kept and removed by reason, one bar per library.",
        ),
        studio.draw(
            figures_qc.metric_distributions(evidence.cells, thresholds)
            if figures_qc.cut_metrics(evidence.cells)
            else None,
            "qc_metrics",
            "Each shape is a histogram of a library's barcodes, drawn to both sides: blue were kept, orange around "
            "them were removed, for this metric or another. Dashed lines are the cuts. Values beyond the axis are "
            "counted at its end. A cut through the middle of a hump removes good cells.",
            "Mirrored histograms of each quality metric per library, kept and removed barcodes, with the cuts drawn.",
        ),
        studio.draw(
            figures_qc.modality_scatter(evidence.cells, studio.settings["max_cells_plot"]),
            "rna_against_atac",
            "Each point is a barcode; brighter means more kept barcodes around it, orange ones were removed. Good "
            "cells have both RNA and ATAC and form one cloud at the upper right.",
            "Scatter plots of RNA counts against ATAC counts per barcode, one panel per library.",
        ),
        studio.draw(
            figures_qc.doublet_overlaps(evidence.cells, {row["sample"]: row.get("overlaps") for row in evidence.qc}),
            "doublet_overlaps",
            "One cell has two copies of the genome, so three fragments on one place point to two cells. Barcodes above "
            "the dashed line have more such places than single cells of their depth; without a line none was called. "
            "Only barcodes that passed all other limits are shown.",
            "Scatter plots of sites under more than two fragments against fragments, one panel per library.",
        ),
    ]


def cell_section(evidence: Evidence, studio: Studio, columns: dict[str, str]) -> Section:
    """Maps of the cells: raw RNA, raw ATAC, and the model."""
    section = Section("cells", "Cell map", "The same cells seen by raw RNA, by raw ATAC and by the model.")
    views = [view for view in (evidence.multiome, evidence.embedding) if view is not None and view.maps]
    if not views:
        return section
    maps = {name: coordinates for view in views for name, coordinates in view.maps.items()}
    obs = views[0].obs
    for column in colour_columns(obs, studio.settings["colour_by"], columns):
        by_origin = column in ("sample", "donor")
        reading = (
            "Where libraries or donors form islands of their own within one cell type, technical differences are left."
            if by_origin
            else (
                "Groups that lie apart are easy to tell from this view alone; distances between far groups mean little."
            )
        )
        section.blocks.append(
            studio.draw(
                figures_cells.cell_maps(maps, obs[column], studio.settings["max_cells_plot"], on_map=not by_origin),
                f"cells_by_{slug(column)}",
                f"UMAPs coloured by {column_name(column)}; each point is a cell. {reading}",
                f"UMAPs of {listed(maps)}, coloured by {column_name(column)}.",
            )
        )
    return section


def colour_columns(obs: pd.DataFrame, asked: str | None, columns: dict[str, str]) -> list[str]:
    """Columns that colour the maps: library, donor where it says more, and the label.

    Raises
    ------
    InputError
        If `report.colour_by` names a column that the cells do not have.
    """
    if asked and asked not in obs:
        raise InputError(
            "report.colour_by",
            f"the cells have no column '{asked}'",
            f"Choose one of {listed(obs.columns, 20)}, or null",
        )
    label = asked or next(iter(columns.values()), None)
    donor_is_library = "donor" in obs and "sample" in obs and obs["donor"].nunique() in (1, obs["sample"].nunique())
    wanted = ["sample", *([] if donor_is_library else ["donor"]), label]
    return list(dict.fromkeys(column for column in wanted if column in obs))


def pretraining_section(evidence: Evidence, studio: Studio) -> Section:
    """Loss curves against their floor."""
    section = Section(
        "pretraining",
        "Pretraining",
        "How well the model fills in values it does not see, during training and in cells it was not trained on.",
    )
    metrics = evidence.pretrain_metrics
    if metrics is None or metrics.empty:
        return section
    gains = {name: f"{gain:+.1f} %" for name, gain in pretraining_gain(metrics).items()}
    section.blocks.append(
        studio.draw(
            figures_model.pretraining_curves(metrics),
            "pretraining_curves",
            "Lower is better. The dashed line is what predicting each gene's mean costs: only below it has the "
            "model learned more than averages. "
            "A blue curve that rises while the grey one falls means overfitting.",
            "Masked loss of RNA and ATAC against training steps, training and held-out cells, with the "
            "mean-profile floor.",
        )
    )
    if gains:
        rows = [[name, gain] for name, gain in gains.items()]
        caption = (
            "At the last validation, on held-out cells: how far the loss lies below the mean-profile floor, in "
            "percent of the floor (negative: above it)."
        )
        section.blocks.append(
            tables.Table(
                "pretraining_gain",
                "Gain over the mean profile",
                ["Modality", "Gain"],
                rows,
                caption,
                "pretrain/*/metrics.tsv",
            )
        )
    section.blocks += _pretraining_judged(evidence, studio)
    return section


def _pretraining_judged(evidence: Evidence, studio: Studio) -> list:
    """Losses beside simple predictors, and variants of the model."""
    blocks = []
    if evidence.pretraining is not None and not evidence.pretraining.empty:
        sizes = (evidence.pretrain_config or {}).get("model", {})
        chosen_there = floors.weights_chosen_there(evidence.pretrain_run)
        blocks += [
            floors.floor_table(evidence.pretraining, sizes.get("predicts", "counts"), chosen_there),
            studio.draw(
                figures_model.pretraining_floors(evidence.pretraining),
                "forest_pretraining",
                "How much higher the loss of simple predictors is than ours, on the same hidden values; lines are "
                "intervals. A point left of the line predicts better than our model, one whose interval crosses it "
                "cannot be told apart. " + floors.floor_sentence(evidence.pretraining, chosen_there),
                "Loss of simple predictors less that of our model, with intervals, for RNA and ATAC.",
            ),
        ]
    if evidence.ablation is not None and not evidence.ablation.empty:
        items = floors.ablation_items(evidence.ablation)
        blocks += [floors.ablation_table(evidence.ablation)]
        blocks += [Note("What the parts are worth", items)] if items else []
    return blocks


def annotation_section(evidence: Evidence, studio: Studio) -> Section:
    """Scores with baselines, and where the model goes wrong."""
    section = Section(
        "annotation",
        "Prediction of labels",
        "Every score is on cells of folds that neither the model's adapters nor the baselines were trained on.",
    )
    if evidence.annotation is not None and not evidence.annotation.empty:
        for dataset in dict.fromkeys(evidence.annotation["dataset"]):
            judged = f"held-out cells: {spoken(task_of(dataset))}"
            section.blocks += score_blocks(evidence.annotation, dataset, judged, "evaluate/annotation.tsv", studio)
    for task, predictions in evidence.predictions.items():
        section.blocks += [
            studio.draw(
                figures_model.confusion(predictions.astype({"truth": str, "predicted": str})),
                f"confusion_{slug(task)}",
                f"Our model on {spoken(task)}: each row is a true class, and its numbers say what percentage was "
                "predicted as what. A perfect model fills the diagonal only.",
                f"Confusion matrix of our model on {spoken(task)}, rows in percent.",
            ),
            tables.class_table(predictions.astype({"truth": str, "predicted": str}), task),
        ]
    return section


def driver_section(evidence: Evidence, studio: Studio) -> Section:
    """Genes that speak for each class."""
    section = Section(
        "drivers",
        "Drivers",
        "Which genes, through RNA or through accessibility, the model uses to recognise a class. They are reasons "
        "of the model, not proven causes.",
    )
    count = studio.settings["top_genes"]
    for task, attribution in evidence.attribution.items():
        mean = figures_drivers.mean_attribution(attribution)
        if mean.empty or not (mean["attribution"] > 0).any():
            continue
        section.blocks += [
            studio.draw(
                figures_drivers.driver_bars(mean, count),
                f"drivers_{slug(task)}",
                f"Genes that speak most for each class of {spoken(task)}. The length of a bar is the mean "
                "contribution to the score of the class, blue from RNA and orange from accessibility.",
                f"Bar charts of the top driver genes per class of {spoken(task)}.",
            ),
            studio.draw(
                figures_drivers.driver_heatmap(mean, 3 if mean["class"].nunique() <= 12 else 2),
                f"driver_map_{slug(task)}",
                "Class-specific genes (columns) against classes (rows). The darkest cell of a column is the class "
                "in which that gene counts most; a clean diagonal means drivers of their own.",
                f"Heat maps of class-specific driver genes of {spoken(task)}, RNA and ATAC.",
            ),
            tables.driver_table(mean, task, count),
        ]
        if task in evidence.completeness:
            section.blocks.append(tables.completeness_table(evidence.completeness[task], task))
    return section


def runtime_blocks(evidence: Evidence) -> list:
    """Time, memory and versions."""
    records = [record for record in [evidence.pretrain_run, *evidence.finetune_runs] if record]
    blocks = [
        tables.cost_table(evidence.benchmarks) if evidence.benchmarks is not None else None,
        tables.version_table(records),
    ]
    return [block for block in blocks if block is not None]
