"""What regulons are built from, gathered from files: expression, links, motif sites, networks and lists of TFs."""

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_tf_list
from regulonformer.io.multiome import counts_of, paired_cells
from regulonformer.prior.association import basis_of, denoise
from regulonformer.prior.motif_hits import read_hits
from regulonformer.prior.network import fit_to_genes, read_network
from regulonformer.prior.regulons import Evidence
from regulonformer.prior.sites import fit_sites

# Correlations over fewer cells mean nothing: then support alone decides.
MIN_CELLS = 50


def profiles(multiome, modality: str) -> np.ndarray:
    """Denoised profiles of genes or peaks, features x components; all zero, hence without a say, if cells are few.

    Profiles of both modalities are of the paired cells, or they could not be compared; where those are few, genes are
    judged by all cells with RNA, and peaks have no say.
    """
    cells = paired_cells(multiome)
    if len(cells) < MIN_CELLS and modality == "rna":
        cells = multiome["rna"].obs_names
    if len(cells) < MIN_CELLS:
        return np.zeros((multiome[modality].n_vars, 1), dtype=np.float32)
    return denoise(matrix_of(multiome, modality, cells), basis_of_cells(multiome, cells))[0]


def basis_of_cells(multiome, cells) -> np.ndarray:
    """Basis that the PCA of RNA spans over some of the cells that have it (see `basis_of`)."""
    scores = np.asarray(multiome["rna"].obsm["X_pca"])[multiome["rna"].obs_names.get_indexer(cells)]
    return basis_of(scores, multiome.obs.loc[cells, "sample"].astype(str).to_numpy())


def matrix_of(multiome, modality: str, cells):
    """Counts of some cells of a modality, left on disk where these are all that it has."""
    same = multiome[modality].obs_names.equals(pd.Index(cells))
    return multiome[modality].X if same else counts_of(multiome, modality, cells)


def gather(multiome, links: pd.DataFrame, *, min_link_score: float) -> tuple[Evidence, dict]:
    """Expression of all genes, and the links that are strong enough and name a known gene.

    Parameters
    ----------
    multiome
        MuData with RNA counts and X_pca.
    links
        peak, gene, score.
    min_link_score
        Links below this carry no edge.

    Returns
    -------
    evidence
        Without motifs and network.
    counts
        Links by what became of them; cells; genes that do not vary.
    """
    genes = pd.Index(multiome["rna"].var_names.astype(str))
    expression = profiles(multiome, "rna")
    row = genes.get_indexer(links["gene"])
    weak = (links["score"] < min_link_score).to_numpy()
    kept = (row >= 0) & ~weak
    used = links[kept]
    evidence = Evidence(genes, expression, row[kept], used["peak"].to_numpy(dtype=object), used["score"].to_numpy())
    counts = {
        "cells": multiome.n_obs,
        "genes_without_variance": int((~expression.any(axis=1)).sum()),
        "links": len(links),
        "links_below_min_score": int(weak.sum()),
        "links_of_unknown_genes": int((row < 0).sum()),
    }
    return evidence, counts


def add_motifs(evidence: Evidence, path, multiome) -> dict:
    """Add the motif sites of a scan to the evidence, and return what the scan counted and what its sites are worth.

    Parameters
    ----------
    evidence
        See `gather`.
    path
        npz file of a scan.
    multiome
        The MuData that the evidence came from.

    Raises
    ------
    InputError
        If the scan is of other peaks than the links.
    """
    hits = read_hits(path)
    column = pd.Index(hits.peaks).get_indexer(evidence.link_peak)
    linked = np.flatnonzero(column >= 0)
    if len(evidence.link_peak) and not len(linked):
        problem = f"none of its peaks (like {hits.peaks[0]}) is linked (links name peaks like {evidence.link_peak[0]})"
        raise InputError(path, problem, "Scan the peaks of this run again")
    accessibility = profiles(multiome, "atac")
    if not accessibility.any():
        accessibility = np.zeros((len(accessibility), evidence.expression.shape[1]), np.float32)
    # A peak that was scanned and then filtered out has no profile.
    of_peak = multiome["atac"].var_names.get_indexer(hits.peaks)
    peaks = np.vstack([accessibility, np.zeros_like(accessibility[:1])])[of_peak]
    tfs = evidence.expression[evidence.genes.get_indexer(hits.tfs)]
    evidence.site_probability, strata = fit_sites(hits.scores, tfs, peaks)
    evidence.motif_row = {tf: row for row, tf in enumerate(hits.tfs)}
    shape = (len(hits.peaks), len(evidence.link_peak))
    evidence.links_of_peak = sparse.csr_matrix((np.ones(len(linked)), (column[linked], linked)), shape=shape)
    unscanned = len(evidence.link_peak) - len(linked)
    lost = {"motifs_without_gene": hits.unmapped, "links_of_unscanned_peaks": unscanned}
    return hits.counts | lost | {"peaks_scanned_but_not_kept": int((of_peak < 0).sum()), "site_strata": strata}


def add_network(
    evidence: Evidence, path, names: GeneNames, *, confidence, keep_unmeasured_tfs: bool
) -> tuple[dict, pd.DataFrame]:
    """Add a published network to the evidence.

    Returns
    -------
    counts
        What was read and left out (see `network`).
    unmapped
        Names that stand for no gene: name, file, reason.
    """
    edges, read = read_network(path, confidence)
    evidence.network, fitted = fit_to_genes(edges, names, path, keep_unmeasured_tfs)
    return read | fitted, names.unmapped(pd.concat([edges["source"], edges["target"]]), path)


def choose_sources(evidence: Evidence, names: GeneNames, path=None) -> tuple[list[str], int]:
    """TFs that have evidence, limited to the list in a file if there is one.

    Parameters
    ----------
    evidence
        With motifs, network or both.
    names
        Genes of the data.
    path
        One TF per line, or None.

    Returns
    -------
    tfs
        Sorted symbols.
    n_left_out
        TFs with evidence that the list lacks.

    Raises
    ------
    InputError
        If the list has none of them.
    """
    known = set(evidence.motif_row) | set([] if evidence.network is None else evidence.network["source"])
    if not path:
        return sorted(known), 0
    listed = read_tf_list(path)
    # A TF that is no gene of the data goes by the network's name for it.
    unmeasured = GeneNames(sorted(known - set(names.symbols)))
    allowed = (set(names.spell(listed)) | set(unmeasured.spell(listed))) & known
    if not allowed:
        examples = ", ".join(listed[:3]), ", ".join(sorted(known)[:3])
        problem = f"none of its TFs ({examples[0]}) has a motif or network edge here ({examples[1]})"
        raise InputError(path, problem, "Give one TF symbol per line, of this species")
    return sorted(allowed), len(known - allowed)
