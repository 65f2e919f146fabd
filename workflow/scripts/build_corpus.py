"""Write all cells as model input: counts of RNA and gene accessibility over a vocabulary of genes, TFs first."""

import logging

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulonformer.corpus.shards import mixed_order, write_counts
from regulonformer.corpus.vocabulary import build_vocabulary, describe, unplaced
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases, read_tf_list
from regulonformer.io.library import ACCESSIBILITY, UNSPLICED
from regulonformer.io.rows import BLOCK_CELLS, read_rows
from regulonformer.io.store import open_mudata, read_parquet, read_tsv, write_json, write_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.matrices.accessibility import (
    elements_of_genes,
    gene_accessibility,
    linked_peaks,
    peaks_per_gene,
)
from regulonformer.prior.links import read_links


def main(
    *,
    multiome,
    regulons,
    settings,
    shards,
    cells,
    vocabulary,
    genes,
    elements,
    unmapped,
    summary,
    links=None,
    regulons_unmapped=None,
    tfs=None,
    aliases=None,
):
    """Build the corpus.

    Parameters
    ----------
    multiome
        h5mu with `rna` and `atac`, whose `varm` says which peaks lie in whose promoter; each holds the cells that were
        measured in it. `unspliced`, where it is there, takes the place of accessibility.
    regulons
        Regulon table; its sources are TFs.
    links
        Peak-gene links, or None for a run without ATAC.
    settings
        Section `corpus`: accessibility, min_link_score.
    shards, cells, vocabulary
        Folder and files to write.
    genes, elements, unmapped, summary
        Files to write: number of peaks of every gene, the peaks themselves, names without a gene, and counts.
    regulons_unmapped
        Names that the regulons could not use (name, file, reason), or None.
    tfs
        Text file of further TFs, one per line, or None.
    aliases
        Table of other names of genes, or None.
    """
    data = open_mudata(multiome)
    rna, atac = data.mod["rna"], data.mod["atac"]
    names = GeneNames.of_matrix(rna.var, read_aliases(aliases) if aliases else None)
    listed = read_tf_list(tfs) if tfs else []
    tokens = build_vocabulary(rna.var, set(read_parquet(regulons)["source"]) | set(names.spell(listed)))
    write_tsv(tokens, vocabulary)
    lost = [unplaced(rna.var), names.unmapped(listed, tfs)]
    lost += [read_tsv(regulons_unmapped)] if regulons_unmapped else []
    lost = pd.concat(lost).drop_duplicates(ignore_index=True)
    write_tsv(lost, unmapped)

    column = rna.var_names.get_indexer(tokens["symbol"])
    members = [sp.csr_matrix(atac.varm["promoters"])]
    linked = linked_peaks(read_links(links), atac.var_names, rna.var_names, settings["min_link_score"])
    per_gene = tokens[["token", "gene_id", "symbol"]].assign(promoter_peaks=peaks_per_gene(*members)[column])
    members += [linked] if settings["accessibility"] == "linked" else []
    per_gene["linked_peaks"] = peaks_per_gene(*members)[column] - per_gene["promoter_peaks"]
    write_tsv(per_gene, genes)
    write_parquet(elements_of_genes(atac.var_names, rna.var_names, *members), elements)

    table = _cell_table(data.obs).iloc[mixed_order(len(data.obs))]
    second = data.mod.get(UNSPLICED, atac)
    rows = {name: modality.obs_names.get_indexer(table.index) for name, modality in (("rna", rna), ("atac", second))}
    totals = []
    members = None if UNSPLICED in data.mod else [member[:, column] for member in members]
    blocks = _blocks(rna, second, rows, column, members)
    write_counts(shards, _counted(blocks, totals), len(tokens), _largest(data))
    totals = pd.concat(totals, ignore_index=True).set_index(table.index)
    measured = {f"has_{name}": found >= 0 for name, found in rows.items()}
    write_parquet(table.join(totals).assign(**measured), cells)
    counts = describe(tokens, rna.var, per_gene, lost) | {"cells": len(table), **settings}
    counts |= {f"cells_without_{name}": int((found < 0).sum()) for name, found in rows.items()}
    counts["second_modality"] = UNSPLICED if UNSPLICED in data.mod else ACCESSIBILITY
    logging.info("%s", counts)
    write_json(summary, counts)


def _cell_table(obs):
    """Labels and metrics of the cells; totals over whole matrices make way for those over the vocabulary."""
    whole = {f"n_counts_{name}": f"matrix_counts_{name}" for name in ("rna", "atac")}
    return obs.rename(columns=whole).set_axis(obs.index.astype(str)).rename_axis("cell")


def _largest(data):
    """A number that no count exceeds: the largest total of a cell, where that is known."""
    measured = [name for name in ("rna", "atac", UNSPLICED) if name in data.mod and data[name].n_obs]
    totals = data.obs.reindex(columns=[f"n_counts_{name}" for name in measured]).max()
    return int(totals.max()) if totals.notna().all() else 2**31 - 1


def _blocks(rna, second, rows, column, members):
    """RNA and accessibility (or, without members, counts of genes) of the next cells x vocabulary, until all are done.

    Cells that lack a modality have an empty row; what they lack stands in their `has_rna` and `has_atac`.
    """
    for start in range(0, len(rows["rna"]), BLOCK_CELLS):
        block = slice(start, start + BLOCK_CELLS)
        counts = read_rows(second.X, rows["atac"][block])
        yield (
            read_rows(rna.X, rows["rna"][block])[:, column],
            counts[:, column] if members is None else gene_accessibility(counts, *members),
        )


def _counted(blocks, totals):
    """Pass blocks on, and keep the totals of their cells: n_counts_rna, n_counts_atac, n_active."""
    for rna, atac in blocks:
        counts = {"n_counts_rna": rna.sum(axis=1), "n_counts_atac": atac.sum(axis=1)}
        counts["n_active"] = ((rna != 0) + (atac != 0)).getnnz(axis=1)
        totals.append(pd.DataFrame({name: np.asarray(values).ravel() for name, values in counts.items()}))
        yield rna, atac


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            **{name: getattr(job.input, name) for name in ("multiome", "regulons", "regulons_unmapped")},
            **{name: getattr(job.input, name, None) or None for name in ("links", "tfs", "aliases")},
            settings=job.params.corpus,
            **dict(job.output.items()),
        )
