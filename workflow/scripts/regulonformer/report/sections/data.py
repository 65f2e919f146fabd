"""The section on the data: quality control and everything that was filtered."""

from regulonformer.report.blocks import Note, Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.fragments import fragment_profiles
from regulonformer.report.figures.qc import (
    barcode_fates,
    cut_metrics,
    doublet_overlaps,
    metric_distributions,
    modality_scatter,
)
from regulonformer.report.tables.quality import (
    count_table,
    findings_table,
    library_table,
    reason_table,
    threshold_table,
)
from regulonformer.report.tables.table import filter_table
from regulonformer.report.words.methods_data import what_is_missing


def data_section(evidence: Evidence, studio: Studio) -> Section:
    """Quality control and everything that was filtered."""
    section = Section(
        "data", "Data and quality control", "What came in, which barcodes count as cells, and what was removed and why."
    )
    if evidence.qc:
        section.blocks += [library_table(evidence.qc), reason_table(evidence.qc)]
    if lacking := what_is_missing(evidence):
        section.blocks.append(Note("Modalities that libraries lack", lacking))
    if evidence.cells is not None:
        section.blocks += _cell_quality(evidence, studio)
    if evidence.qc:
        section.blocks += [
            studio.draw(
                fragment_profiles(evidence.qc),
                "fragment_profiles",
                "Fragments",
                caption=(
                    "Left: fragment lengths; good ATAC libraries show a tall nucleosome-free part and a second hump "
                    "near 200 bp. Right: Tn5 cuts around transcription start sites, as fold over the flanks; a sharp "
                    "central peak means signal over noise."
                ),
                alt="Line plots of fragment length and of cuts around transcription start sites, one line per library.",
                source="ingest/*.qc.json",
            ),
            threshold_table(evidence.qc),
        ]
    if evidence.peaks_summary:
        section.blocks.append(filter_table("peaks_summary", "Peaks", evidence.peaks_summary, "features/peaks.json"))
    if evidence.counts:
        section.blocks.append(count_table(evidence.counts))
    if evidence.merge_summary:
        section.blocks.append(
            filter_table(
                "merge_summary", "Genes, peaks and cells after merging", evidence.merge_summary, "features/merge.json"
            )
        )
    if notes := [f"{record['sample']}: {note}" for record in evidence.qc for note in record.get("notes", [])]:
        section.blocks.append(Note("Notes per library", notes))
    if evidence.validation and evidence.validation.get("findings"):
        section.blocks.append(findings_table(evidence.validation["findings"]))
    return section


def _cell_quality(evidence: Evidence, studio: Studio) -> list:
    thresholds = {record["sample"]: record.get("thresholds", {}) for record in evidence.qc}
    return [
        studio.draw(
            barcode_fates(evidence.cells),
            "barcode_fates",
            "Barcodes kept and removed",
            caption="Each bar is a library: the grey part was kept, coloured parts were removed for the reason named.",
            alt="Stacked bars: share of barcodes kept and removed by reason, one bar per library.",
            source="ingest/*.cells.parquet",
        ),
        studio.draw(
            metric_distributions(evidence.cells, thresholds) if cut_metrics(evidence.cells) else None,
            "qc_metrics",
            "Quality metrics and their cuts",
            caption=(
                "Each shape is a histogram of a library's barcodes, drawn to both sides: blue were kept, orange "
                "around them were removed, for this metric or another. Dashed lines are the cuts. Values beyond the "
                "axis are counted at its end. A cut through the middle of a hump removes good cells."
            ),
            alt=(
                "Mirrored histograms of each quality metric per library, kept and removed barcodes, with the cuts "
                "drawn."
            ),
            source="ingest/*.cells.parquet, *.qc.json",
        ),
        studio.draw(
            modality_scatter(evidence.cells, studio.settings["max_cells_plot"]),
            "rna_against_atac",
            "Both modalities of each barcode",
            caption=(
                "Each point is a barcode; brighter means more kept barcodes around it, orange ones were removed. "
                "Good cells have both RNA and ATAC and form one cloud at the upper right."
            ),
            alt="Scatter plots of RNA counts against ATAC counts per barcode, one panel per library.",
            source="ingest/*.cells.parquet",
        ),
        studio.draw(
            doublet_overlaps(evidence.cells, {row["sample"]: row.get("overlaps") for row in evidence.qc}),
            "doublet_overlaps",
            "Doublets by ATAC",
            caption=(
                "One cell has two copies of the genome, so three fragments on one place point to two cells. Barcodes "
                "above the dashed line have more such places than single cells of their depth; without a line none "
                "was called. Only barcodes that passed all other limits are shown."
            ),
            alt="Scatter plots of sites under more than two fragments against fragments, one panel per library.",
            source="ingest/*.cells.parquet, *.qc.json",
        ),
    ]
