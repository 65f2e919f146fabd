"""Merge all libraries, place genes on the genome, sum peaks to gene accessibility, and compute the standard views."""

import logging

import numpy as np
import pandas as pd

from regulonformer.io.anndata_files import PLACE
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.multiome import add_elements, write_in_blocks
from regulonformer.io.store import open_mudata, read_parquet, write_json
from regulonformer.log import rule_log
from regulonformer.matrices.accessibility import gene_accessibility, peaks_per_gene, promoter_peaks, promoter_windows
from regulonformer.matrices.genes import place_genes, windows_to_genes
from regulonformer.matrices.merge import Joined
from regulonformer.matrices.views import atac_views, rna_views

PROMOTER = {"upstream": 1500, "downstream": 500}


def main(*, counts, settings, output, output_summary, genes=None, tss=None, aliases=None):
    """Write rna, atac and accessibility of all cells (h5mu) and what was filtered (json)."""
    import anndata

    libraries = [open_mudata(path) for path in counts]
    obs, summary = _all_obs(libraries), {"annotation": bool(genes)}
    rna, atac = (
        Joined([data[name] for data in libraries], name, settings.get(key, 3))
        for name, key in (("rna", "min_cells_gene"), ("atac", "min_cells_peak"))
    )
    summary |= {"rna": rna.counts, "atac": atac.counts}
    features, promoters = _accessibility(rna.var, atac.var, genes, tss, aliases, settings, summary)
    tables = {name: anndata.AnnData(obs=obs.loc[rna.obs_names, []], var=var) for name, var in features.items()}
    tables["atac"].varm["promoters"] = promoters
    write_in_blocks(output, obs, tables, _blocks(rna, atac, promoters))
    _add_views(output, settings)
    if set(PLACE) <= set(obs):
        add_elements(output, None, **{"obsm/spatial": obs[list(PLACE)].to_numpy(float)})
    summary |= {"cells": len(obs), "libraries": obs["sample"].value_counts().sort_index().to_dict()}
    logging.info("merged: %s", summary)
    write_json(output_summary, summary)


def _blocks(rna, atac, promoters):
    """Counts of the next cells, one modality after the other."""
    for counts in rna.blocks():
        yield {"rna": counts}
    for counts in atac.blocks():
        yield {"atac": counts, "accessibility": gene_accessibility(counts, promoters)}


def _add_views(path, settings):
    """Add PCA, LSI and UMAP to the file of all cells, and mark the highly variable genes."""
    chosen = {name: int(settings[name]) for name in ("seed", "n_components", "fit_cells") if name in settings}
    chosen = {"seed": 0} | chosen
    data = open_mudata(path)
    highly_variable, maps = rna_views(data["rna"].X, n_top_genes=int(settings.get("n_top_genes", 2000)), **chosen)
    var, atac_maps = data["rna"].var.assign(highly_variable=highly_variable), atac_views(data["atac"].X, **chosen)
    data.file.close()
    add_elements(path, "rna", var=var, obsm=maps)
    add_elements(path, "atac", obsm=atac_maps)


def _all_obs(libraries):
    """Cell tables of all libraries; text that a library lacks is "", numbers are NaN."""
    obs = pd.concat([data.obs for data in libraries])
    text = obs.columns[~np.array([pd.api.types.is_numeric_dtype(obs[name]) for name in obs])]
    return obs.assign(**{name: obs[name].astype(object).fillna("").astype(str) for name in text})


def _accessibility(rna, atac, genes, tss, aliases, settings, summary):
    """Feature tables of all modalities, and which peaks lie in whose promoter (peaks x genes)."""
    named = read_aliases(aliases) if aliases else None
    placed = place_genes(rna, read_parquet(genes) if genes else None, named)
    windows = pd.DataFrame(columns=["gene_id", "chrom", "start", "end"])
    if tss:
        upstream, downstream = (int(settings.get(f"promoter_{side}_bp", bp)) for side, bp in PROMOTER.items())
        windows = promoter_windows(read_parquet(tss), upstream=upstream, downstream=downstream)
    windows, column = windows_to_genes(windows, placed)
    promoters = promoter_peaks(atac, windows, column, len(rna))
    n_peaks, in_annotation = peaks_per_gene(promoters), (placed["annotation_id"] != "").to_numpy()
    summary["genes"] = {"in_annotation": int(in_annotation.sum()), "with_promoter_peak": int((n_peaks > 0).sum())}
    summary["genes"]["found_by"] = placed.loc[in_annotation, "match"].value_counts().sort_index().to_dict()
    var = pd.DataFrame({"in_annotation": in_annotation, "n_peaks": n_peaks}, index=rna.index)
    return {"rna": placed.drop(columns="annotation_id"), "atac": atac, "accessibility": var}, promoters


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            counts=list(job.input.counts),
            **{name: getattr(job.input, name, None) or None for name in ("genes", "tss", "aliases")},
            settings=job.params.features,
            output=job.output.multiome,
            output_summary=job.output.summary,
        )
