"""Count one library's cells in the consensus peaks, from its fragments or, where it has none, from its peak matrix.

A library without ATAC gets no peaks: its cells lack that modality, which is something else than a count of 0.
"""

import logging
from pathlib import Path

import numpy as np

from regulonformer.features import carry_counts, count_with_totals
from regulonformer.io.multiome import make_mudata
from regulonformer.io.peaks import peak_names, read_bed
from regulonformer.io.store import read_mudata, write_json, write_mudata
from regulonformer.log import rule_log


def main(*, ingested, peaks, settings, output, output_summary, fragments=None, threads=1):
    """Write the library with its ATAC counts over the consensus peaks (h5mu), and what was counted and lost (json)."""
    data, consensus = read_mudata(ingested), read_bed(peaks)[["chrom", "start", "end"]]
    obs, tables = data.obs.copy(), {name: data[name] for name in ("rna", "unspliced") if name in data.mod}
    summary = {"library": Path(ingested).stem, "cells": data.n_obs, "peaks": len(consensus)}
    if fragments or "atac" in data.mod:
        tables["atac"], origin = _count(data, fragments, consensus, obs, settings, threads)
        summary |= origin | {"counts": int(tables["atac"].X.sum())}
    else:
        summary["counted_from"] = "no ATAC"
    logging.info("%s", summary)
    write_json(output_summary, summary)
    write_mudata(make_mudata(tables, obs), output)


def _count(data, fragments, consensus, obs, settings, threads):
    """Counts over the consensus peaks (AnnData) and where they come from; metrics are put into `obs`."""
    import anndata

    names = peak_names(consensus)
    if fragments:
        barcodes, strategy = list(obs["barcode"].astype(str)), settings.get("strategy", "fragment")
        counted = count_with_totals(fragments, consensus, barcodes, strategy=strategy, threads=threads)
        matrix, origin = counted.matrix, {"counted_from": "fragments"}
        obs["frip"] = counted.n_in_peaks / np.maximum(counted.n_fragments, 1)
    else:
        matrix, origin = _from_matrix(data["atac"], consensus, names)
    obs["n_counts_atac"] = np.asarray(matrix.sum(axis=1)).ravel().astype(np.int64)
    obs["n_peaks"] = np.diff(matrix.indptr).astype(np.int64)
    return anndata.AnnData(matrix, obs=obs[[]].copy(), var=consensus.set_axis(names)), origin


def _from_matrix(atac, consensus, names):
    """Reorder the counts if the peaks are the same, else carry them over by overlap."""
    place = atac.var_names.get_indexer(names)
    if len(names) == atac.n_vars and (place >= 0).all():
        matrix = atac.X[:, place].tocsr()
        matrix.sort_indices()
        return matrix.astype(np.int32), {"counted_from": "matrix with the same peaks"}
    matrix, lost = carry_counts(atac.X, atac.var[["chrom", "start", "end"]], consensus)
    return matrix, {"counted_from": "matrix with other peaks", "own_peaks": atac.n_vars} | lost


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            ingested=job.input.ingested,
            peaks=job.input.peaks,
            fragments=getattr(job.input, "fragments", None) or None,
            settings=job.params.features,
            output=job.output.mudata,
            output_summary=job.output.summary,
            threads=job.threads,
        )
