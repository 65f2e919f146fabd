"""Read one library, measure the quality of every barcode in both modalities, and keep the cells."""

import logging

from regulonformer.errors import InputError
from regulonformer.io.annotation import read_tss
from regulonformer.io.metadata import join_labels, read_barcode_metrics, sample_table
from regulonformer.io.multiome import make_mudata, take_cells
from regulonformer.io.peaks import read_bed
from regulonformer.io.store import write_json, write_mudata, write_parquet
from regulonformer.io.tenx import read_10x
from regulonformer.log import rule_log
from regulonformer.quality.cells import count_reasons, judge_cells, matrix_atac_metrics, rna_metrics
from regulonformer.quality.fragments import fragment_metrics


def main(
    *,
    matrix_h5,
    sample,
    settings,
    output_mudata,
    output_cells,
    output_qc,
    fragments=None,
    peaks=None,
    barcode_metrics=None,
    labels=None,
    annotation=None,
):
    """Write the kept cells (h5mu), metrics and reason of every barcode (parquet), and what went and why (json)."""
    matrix = read_10x(matrix_h5)
    barcodes, notes, summary = list(matrix.rna.obs_names), list(matrix.notes), None
    cells = sample_table(sample, barcodes)
    if labels:
        cells, more = join_labels(cells, labels)
        notes += more
    metrics = [rna_metrics(matrix.rna)]
    if matrix.atac is not None:
        metrics.append(matrix_atac_metrics(matrix.atac))
    if fragments:
        known = read_bed(peaks) if peaks else matrix.atac.var if matrix.atac is not None else None
        quality = fragment_metrics(fragments, barcodes, tss=read_tss(annotation) if annotation else None, peaks=known)
        metrics.append(quality.cells)
        summary = quality.summary
        notes += [] if annotation else ["no annotation: TSS enrichment was not measured"]
        notes += [] if known is not None else ["no peaks yet: the fraction of fragments in peaks comes with the counts"]
    if barcode_metrics:
        table, more = read_barcode_metrics(barcode_metrics, barcodes)
        metrics.append(table)
        notes += more
    for table in metrics:
        cells = cells.join(table.set_axis(cells.index))
    judged = judge_cells(cells, matrix.rna, settings)
    kept = (judged.cells["reason"] == "").to_numpy()
    logging.info("%s: %d of %d cells kept", sample["sample"], kept.sum(), len(kept))
    if not kept.any():
        counts = count_reasons(judged.cells["reason"])
        raise InputError(
            matrix_h5, f"no cell passes the filters ({counts})", "Loosen the thresholds of config section ingest"
        )
    tables = {"rna": matrix.rna, "atac": matrix.atac}
    tables = {name: take_cells(table, kept, cells.index) for name, table in tables.items() if table is not None}
    write_mudata(make_mudata(tables, judged.cells[kept].drop(columns="reason")), output_mudata)
    write_parquet(judged.cells.rename_axis("cell"), output_cells)
    counts = {"cells_in": len(kept), "cells_kept": int(kept.sum()), "removed": count_reasons(judged.cells["reason"])}
    verdict = {"sample": sample["sample"], "thresholds": judged.limits, "notes": notes + judged.notes}
    write_json(output_qc, verdict | counts | {"fragments": summary})


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        optional = ("fragments", "peaks", "barcode_metrics", "labels", "annotation")
        main(
            matrix_h5=job.input.matrix_h5,
            **{name: getattr(job.input, name, None) or None for name in optional},
            sample=job.params.sample,
            settings=job.params.ingest,
            output_mudata=job.output.mudata,
            output_cells=job.output.cells,
            output_qc=job.output.qc,
        )
