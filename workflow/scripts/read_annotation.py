"""Read the annotation once: its genes and their transcription start sites, as tables for all later steps."""

import logging

from regulonformer.io.annotation import describe, read_annotation
from regulonformer.io.store import write_json, write_parquet
from regulonformer.log import rule_log


def main(*, annotation, genes, tss, summary):
    """Write genes and start sites (parquet) and what was read (json)."""
    tables = read_annotation(annotation)
    write_parquet(tables.genes, genes)
    write_parquet(tables.tss, tss)
    counts = describe(tables)
    logging.info("%s: %d genes, %d TSS", annotation, counts["genes"], counts["tss"])
    write_json(summary, counts)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            annotation=job.input.annotation,
            genes=job.output.genes,
            tss=job.output.tss,
            summary=job.output.summary,
        )
