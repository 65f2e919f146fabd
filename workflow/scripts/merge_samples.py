"""Merge all libraries, place genes on the genome, sum peaks to gene accessibility, and compute the standard views."""

import logging
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from regulonformer.io.anndata_files import PLACE
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.library import UNSPLICED
from regulonformer.io.multiome import add_elements, write_in_blocks
from regulonformer.io.store import open_mudata, read_parquet, write_json
from regulonformer.log import rule_log
from regulonformer.matrices.accessibility import gene_accessibility, peaks_per_gene, promoter_peaks, promoter_windows
from regulonformer.matrices.genes import place_genes, windows_to_genes
from regulonformer.matrices.merge import Joined
from regulonformer.matrices.views import atac_views, rna_views

PROMOTER = {"upstream": 1500, "downstream": 500}


def main(*, counts, settings, output, output_summary, genes=None, tss=None, aliases=None):
    """Write rna, atac and accessibility of all cells (h5mu) and what was filtered (json).

    Each modality holds the cells that were measured in it. Without any RNA, the genes are those of the annotation that
    have a peak at a promoter; without any ATAC there are no peaks.
    """
    import anndata

    libraries = [open_mudata(path) for path in counts]
    rna = Joined(_having(libraries, "rna"), "rna", settings.get("min_cells_gene", 3), _annotated(genes))
    atac = Joined(_having(libraries, "atac"), "atac", settings.get("min_cells_peak", 3))
    cells = rna.obs_names.append(atac.obs_names[~atac.obs_names.isin(rna.obs_names)])
    obs, summary = _all_obs(libraries).loc[cells], {"annotation": bool(genes)}
    summary |= {"rna": rna.counts, "atac": atac.counts, "without": _without(libraries, counts)}
    features, promoters = _accessibility(rna, atac.var, genes, tss, aliases, settings, summary)
    measured = {"rna": rna, "atac": atac, "accessibility": atac}
    tables = {
        name: anndata.AnnData(obs=obs.loc[measured[name].obs_names, []], var=var) for name, var in features.items()
    }
    tables["atac"].varm["promoters"] = promoters
    blocks = _blocks(rna, atac, promoters)
    if unspliced := _having(libraries, UNSPLICED):
        second, summary["second_modality"] = Joined(unspliced, UNSPLICED, None), UNSPLICED
        tables[UNSPLICED] = anndata.AnnData(obs=obs.loc[second.obs_names, []], var=features["rna"][["symbol"]])
        blocks = chain(blocks, _unspliced_blocks(second, rna.var.index))
    write_in_blocks(output, obs, tables, blocks)
    _add_views(output, settings)
    if set(PLACE) <= set(obs):
        add_elements(output, None, **{"obsm/spatial": obs[list(PLACE)].to_numpy(float)})
    summary |= {"cells": len(obs), "libraries": obs["sample"].value_counts().sort_index().to_dict()}
    logging.info("merged: %s", summary)
    write_json(output_summary, summary)


def _having(libraries, modality):
    """One modality of the libraries that have it."""
    return [data[modality] for data in libraries if modality in data.mod]


def _without(libraries, counts) -> dict:
    """Libraries that lack a modality, where there are any."""
    names = [Path(path).stem for path in counts]
    lacking = {
        modality: [name for name, data in zip(names, libraries, strict=True) if modality not in data.mod]
        for modality in ("rna", "atac")
    }
    return {modality: names for modality, names in lacking.items() if names}


def _annotated(genes):
    """Genes of the annotation, the first of each symbol; None without one."""
    if not genes:
        return None
    table = read_parquet(genes).drop_duplicates("symbol").astype({"symbol": object})
    return table.set_index(pd.Index(table["symbol"], name=None))[["gene_id"]]


def _unspliced_blocks(second, genes):
    """Unspliced counts of the next cells, over the genes of the RNA."""
    columns = second.var.index.get_indexer(genes)
    for counts in second.blocks():
        yield {UNSPLICED: counts[:, columns]}


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
    made = {}
    if data["rna"].n_obs:
        highly_variable, maps = rna_views(data["rna"].X, n_top_genes=int(settings.get("n_top_genes", 2000)), **chosen)
        made["rna"] = {"var": data["rna"].var.assign(highly_variable=highly_variable), "obsm": maps}
    if data["atac"].n_obs:
        made["atac"] = {"obsm": atac_views(data["atac"].X, **chosen)}
    data.file.close()
    for modality, elements in made.items():
        add_elements(path, modality, **elements)


def _all_obs(libraries):
    """Cell tables of all libraries; text that a library lacks is "", numbers are NaN."""
    obs = pd.concat([data.obs for data in libraries])
    text = obs.columns[~np.array([pd.api.types.is_numeric_dtype(obs[name]) for name in obs])]
    return obs.assign(**{name: obs[name].astype(object).fillna("").astype(str) for name in text})


def _accessibility(rna, atac, genes, tss, aliases, settings, summary):
    """Feature tables of all modalities, and which peaks lie in whose promoter (peaks x genes)."""
    named = read_aliases(aliases) if aliases else None
    placed = place_genes(rna.var, read_parquet(genes) if genes else None, named)
    windows = pd.DataFrame(columns=["gene_id", "chrom", "start", "end"])
    if tss:
        upstream, downstream = (int(settings.get(f"promoter_{side}_bp", bp)) for side, bp in PROMOTER.items())
        windows = promoter_windows(read_parquet(tss), upstream=upstream, downstream=downstream)
    windows, column = windows_to_genes(windows, placed)
    promoters = promoter_peaks(atac, windows, column, len(placed))
    if not rna.tables:
        # Of the annotation, what could ever be seen.
        seen = peaks_per_gene(promoters) > 0
        placed, promoters = placed[seen], promoters[:, seen]
    n_peaks, in_annotation = peaks_per_gene(promoters), (placed["annotation_id"] != "").to_numpy()
    summary["genes"] = {"in_annotation": int(in_annotation.sum()), "with_promoter_peak": int((n_peaks > 0).sum())}
    summary["genes"]["found_by"] = placed.loc[in_annotation, "match"].value_counts().sort_index().to_dict()
    var = pd.DataFrame({"in_annotation": in_annotation, "n_peaks": n_peaks}, index=placed.index)
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
