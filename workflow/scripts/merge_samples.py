"""Merge all libraries, place genes on the genome, sum peaks to gene accessibility, and compute the standard views."""

import logging

import numpy as np
import pandas as pd

from regulonformer.io.annotation import read_genes, read_tss
from regulonformer.io.multiome import make_mudata
from regulonformer.io.store import read_mudata, write_json, write_mudata
from regulonformer.log import rule_log
from regulonformer.matrices.accessibility import gene_accessibility, promoter_windows
from regulonformer.matrices.merge import concatenate, filter_features, place_genes, windows_to_genes
from regulonformer.matrices.views import add_atac_views, add_rna_views

PROMOTER = {"upstream": 1500, "downstream": 500}


def main(*, counts, settings, output, output_summary, annotation=None):
    """Write rna, atac and accessibility of all cells (h5mu) and what was filtered (json)."""
    libraries = [read_mudata(path) for path in counts]
    seed, summary = int(settings.get("seed", 0)), {"annotation": bool(annotation)}
    obs = _all_obs(libraries)
    tables = {}
    for name, filter_key in (("rna", "min_cells_gene"), ("atac", "min_cells_peak")):
        merged, found = concatenate([data[name] for data in libraries], name)
        tables[name], removed = filter_features(merged, settings.get(filter_key, 3))
        summary[name] = found | {"removed_in_few_cells": removed, "kept": tables[name].n_vars}
    del libraries
    tables["accessibility"] = _accessibility(tables["rna"], tables["atac"], annotation, settings, summary)
    n_components, n_top_genes = int(settings.get("n_components", 50)), int(settings.get("n_top_genes", 2000))
    add_rna_views(tables["rna"], seed=seed, n_top_genes=n_top_genes, n_components=n_components)
    add_atac_views(tables["atac"], seed=seed, n_components=n_components)
    summary |= {"cells": len(obs), "libraries": obs["sample"].value_counts().sort_index().to_dict()}
    logging.info("merged: %s", summary)
    write_mudata(make_mudata(tables, obs), output)
    write_json(output_summary, summary)


def _all_obs(libraries):
    """Cell tables of all libraries; text that a library lacks is "", numbers are NaN."""
    obs = pd.concat([data.obs for data in libraries])
    text = obs.columns[~np.array([pd.api.types.is_numeric_dtype(obs[name]) for name in obs])]
    return obs.assign(**{name: obs[name].astype(object).fillna("").astype(str) for name in text})


def _accessibility(rna, atac, annotation, settings, summary):
    """Cells x genes (those of `rna`) of promoter counts; also writes the genes' places to `rna.var`."""
    import anndata

    placed = place_genes(rna.var, read_genes(annotation) if annotation else None)
    rna.var = placed.drop(columns="annotation_id")
    windows = pd.DataFrame(columns=["gene_id", "chrom", "start", "end"])
    if annotation:
        upstream, downstream = (int(settings.get(f"promoter_{side}_bp", bp)) for side, bp in PROMOTER.items())
        windows = promoter_windows(read_tss(annotation), upstream=upstream, downstream=downstream)
    windows, column = windows_to_genes(windows, placed)
    matrix, n_peaks = gene_accessibility(atac.X, atac.var, windows, column, rna.n_vars)
    in_annotation = (placed["annotation_id"] != "").to_numpy()
    summary["genes"] = {"in_annotation": int(in_annotation.sum()), "with_promoter_peak": int((n_peaks > 0).sum())}
    var = pd.DataFrame({"in_annotation": in_annotation, "n_peaks": n_peaks}, index=rna.var_names)
    return anndata.AnnData(matrix, obs=rna.obs[[]].copy(), var=var)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            counts=list(job.input.counts),
            annotation=getattr(job.input, "annotation", None) or None,
            settings=job.params.features,
            output=job.output.multiome,
            output_summary=job.output.summary,
        )
