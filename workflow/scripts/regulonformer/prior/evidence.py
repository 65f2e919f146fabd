"""What regulons are built from, gathered from files: expression, links, motif sites, networks and lists of TFs."""

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.prior.metacells import metacell_profiles, metacells_of, standardise
from regulonformer.prior.motifs import read_hits
from regulonformer.prior.network import fit_to_genes, match_symbols, read_network
from regulonformer.prior.regulons import Evidence, motif_strength


def gather(multiome, links: pd.DataFrame, *, metacell_size: int, min_link_score: float) -> tuple[Evidence, dict]:
    """Expression over metacells, and the links that are strong enough and name a known gene.

    Parameters
    ----------
    multiome
        MuData with RNA counts and X_pca.
    links
        peak, gene, score.
    metacell_size
        Cells per metacell.
    min_link_score
        Links below this carry no edge.

    Returns
    -------
    evidence
        Without motifs and network.
    counts
        Links by what became of them; metacells.
    """
    genes = pd.Index(multiome["rna"].var_names.astype(str))
    metacell_of_cell, samples = metacells_of(multiome, metacell_size)
    expression = standardise(metacell_profiles(multiome["rna"].X, metacell_of_cell), samples)
    row = genes.get_indexer(links["gene"])
    weak = (links["score"] < min_link_score).to_numpy()
    kept = (row >= 0) & ~weak
    used = links[kept]
    evidence = Evidence(genes, expression, row[kept], used["peak"].to_numpy(dtype=object), used["score"].to_numpy())
    counts = {
        "links": len(links),
        "links_below_min_score": int(weak.sum()),
        "links_of_unknown_genes": int((row < 0).sum()),
    }
    return evidence, counts | {"metacells": len(samples)}


def add_motifs(evidence: Evidence, path) -> dict:
    """Add the motif sites of a scan to the evidence, and return what the scan counted.

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
    evidence.motif_row = {tf: row for row, tf in enumerate(hits.tfs)}
    evidence.motif_sites = sparse.csr_matrix(hits.scores, dtype=float)
    evidence.motif_sites.data = motif_strength(evidence.motif_sites.data)
    shape = (len(hits.peaks), len(evidence.link_peak))
    evidence.links_of_peak = sparse.csr_matrix((np.ones(len(linked)), (column[linked], linked)), shape=shape)
    unscanned = len(evidence.link_peak) - len(linked)
    return hits.counts | {"motifs_without_gene": hits.unmapped, "links_of_unscanned_peaks": unscanned}


def add_network(evidence: Evidence, path, *, confidence, keep_unmeasured_tfs: bool) -> dict:
    """Add a published network to the evidence, and return what was read and left out (see `network`)."""
    edges, read = read_network(path, confidence)
    evidence.network, fitted = fit_to_genes(edges, evidence.genes, path, keep_unmeasured_tfs)
    return read | fitted


def choose_sources(evidence: Evidence, path=None) -> tuple[list[str], int]:
    """TFs that have evidence, limited to the list in a file if there is one.

    Parameters
    ----------
    evidence
        With motifs, network or both.
    path
        One symbol per line, matched exactly or else without regard to case; or None.

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
    with open(path) as handle:
        listed = [line.split()[0] for line in handle if line.strip() and not line.startswith("#")]
    allowed = set(match_symbols(listed, sorted(known))) - {""}
    if not allowed:
        examples = ", ".join(listed[:3]), ", ".join(sorted(known)[:3])
        problem = f"none of its TFs ({examples[0]}) has a motif or network edge here ({examples[1]})"
        raise InputError(path, problem, "Give one TF symbol per line, of this species")
    return sorted(allowed), len(known - allowed)
