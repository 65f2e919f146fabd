"""Read one library, measure the quality of every barcode in the modalities that it has, and keep the cells."""

import logging

from regulonformer.errors import InputError
from regulonformer.io.anndata_files import read_places
from regulonformer.io.library import ACCESSIBILITY, read_library, read_own_labels
from regulonformer.io.metadata import join_labels, join_own_labels, read_barcode_metrics, sample_table
from regulonformer.io.multiome import make_mudata, take_cells
from regulonformer.io.peaks import read_bed
from regulonformer.io.store import read_parquet, write_json, write_mudata, write_parquet
from regulonformer.log import rule_log
from regulonformer.quality.cells import count_reasons, judge_cells, matrix_atac_metrics, rna_metrics
from regulonformer.quality.fragments import fragment_metrics

# What is missing without each of the inputs.
NOT_MEASURED = {
    "tss": "no annotation: TSS enrichment was not measured",
    "peaks": "no peaks yet: the fraction of fragments in peaks comes with the counts",
    "blacklist": "no blacklist: the share of fragments in it was not measured",
}
WITHOUT = {"rna": "no genes: cells are judged by ATAC alone", "atac": "no ATAC: cells are judged by RNA alone"}


def main(
    *,
    matrix,
    sample,
    settings,
    output_mudata,
    output_cells,
    output_qc,
    peak_matrix=None,
    fragments=None,
    peaks=None,
    barcode_metrics=None,
    labels=None,
    tss=None,
    blacklist=None,
    threads=1,
):
    """Write the kept cells (h5mu), metrics and reason of every barcode (parquet), and what went and why (json)."""
    library = read_library(
        matrix,
        peak_matrix=peak_matrix,
        modality=sample.get("modality", ""),
        genome=sample.get("genome"),
        recover=settings.get("counts") == "recover",
        add_chr=settings.get("chromosomes") == "chr",
        second=settings.get("second_modality", ACCESSIBILITY),
    )
    tables, barcodes, notes, summary = library.tables, library.barcodes, list(library.notes), None
    rna, atac = tables.get("rna"), tables.get("atac")
    lacks = [name for name in ("rna", "atac") if name not in tables and not (name == "atac" and fragments)]
    notes += [WITHOUT[name] for name in lacks]
    cells, more = sample_table(sample, barcodes)
    notes += more
    if labels:
        cells, more = join_labels(cells, labels)
        notes += more
    cells, more = join_own_labels(cells, read_own_labels(matrix, peak_matrix, sample.get("modality", "")))
    notes += more
    metrics = [rna_metrics(rna)] if rna is not None else []
    if atac is not None:
        metrics.append(matrix_atac_metrics(atac))
    if fragments:
        known = read_bed(peaks) if peaks else atac.var if atac is not None else None
        regions = {
            "tss": read_parquet(tss) if tss else None,
            "peaks": known,
            "blacklist": read_bed(blacklist) if blacklist else None,
        }
        quality = fragment_metrics(fragments, barcodes, **regions, threads=threads)
        metrics.append(quality.cells)
        summary = quality.summary
        notes += [note for name, note in NOT_MEASURED.items() if regions[name] is None]
        if not summary["sorted"]:
            notes.append("fragments are not sorted by position: overlapping fragments were not counted")
    if barcode_metrics:
        table, more = read_barcode_metrics(barcode_metrics, barcodes)
        metrics.append(table)
        notes += more
    places = read_places(matrix)
    if places is not None:
        metrics.append(places.reindex(barcodes))
    for table in metrics:
        cells = cells.join(table.set_axis(cells.index))
    judged = judge_cells(cells, rna, settings)
    kept = (judged.cells["reason"] == "").to_numpy()
    logging.info("%s: %d of %d cells kept", sample["sample"], kept.sum(), len(kept))
    if not kept.any():
        counts = count_reasons(judged.cells["reason"])
        raise InputError(
            matrix, f"no cell passes the filters ({counts})", "Loosen the thresholds of config section ingest"
        )
    tables = {name: take_cells(table, kept, cells.index) for name, table in tables.items()}
    write_mudata(make_mudata(tables, judged.cells[kept].drop(columns="reason")), output_mudata)
    write_parquet(judged.cells.rename_axis("cell"), output_cells)
    counts = {"cells_in": len(kept), "cells_kept": int(kept.sum()), "removed": count_reasons(judged.cells["reason"])}
    verdict = {"sample": sample["sample"], "thresholds": judged.limits, "notes": notes + judged.notes}
    write_json(output_qc, verdict | counts | {"fragments": summary, "overlaps": judged.overlaps, "lacks": lacks})


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        optional = ("peak_matrix", "fragments", "peaks", "barcode_metrics", "labels", "tss", "blacklist")
        main(
            matrix=job.input.matrix,
            **{name: getattr(job.input, name, None) or None for name in optional},
            sample=job.params.sample,
            settings=job.params.ingest,
            threads=job.threads,
            output_mudata=job.output.mudata,
            output_cells=job.output.cells,
            output_qc=job.output.qc,
        )
