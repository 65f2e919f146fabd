"""Regulons: TF -> CRE -> gene edges from motifs, peak-gene links, published networks and expression."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

# -log10 p at which a motif site counts in full: about one such site by chance in a hundred million positions.
FULL_MOTIF = 8.0
# What an edge without correlation still counts: weak correlation is no proof against regulation.
LEAST_CORRELATION = 0.05
# Correlations below this tell no sign.
SIGN_CORRELATION = 0.05
COLUMNS = [
    "source",
    "target",
    "cre",
    "score",
    "sign",
    "motif_score",
    "link_score",
    "tf_target_correlation",
    "network",
    "n_cres",
    "tf_measured",
]


@dataclass
class Evidence:
    """What is known before regulons are built. Genes G, links L, scanned peaks P, TFs of motifs T, metacells M.

    Attributes
    ----------
    genes
        Symbols, length G.
    expression
        G x M, standardised (see `metacells.standardise`).
    link_gene, link_peak, link_score
        Gene row (int), peak name and score of every link, length L.
    motif_row
        Row of `motif_sites` of every TF that has motifs.
    motif_sites
        T x P csr: motif strength in [0, 1] of TFs in scanned peaks; None without motifs.
    links_of_peak
        P x L csr of ones: the links of every scanned peak; None without motifs.
    network
        source, target, weight, sign; None without a network.
    best_link
        Strongest link of every gene, -1 without one; filled in.
    """

    genes: pd.Index
    expression: np.ndarray
    link_gene: np.ndarray
    link_peak: np.ndarray
    link_score: np.ndarray
    motif_row: dict[str, int] = field(default_factory=dict)
    motif_sites: sparse.csr_matrix | None = None
    links_of_peak: sparse.csr_matrix | None = None
    network: pd.DataFrame | None = None
    best_link: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.best_link = best_links(self.link_gene, self.link_score, len(self.genes))


def motif_strength(minus_log10_p: np.ndarray) -> np.ndarray:
    """Strength of a motif site in [0, 1]: -log10(p) / 8, at most 1."""
    return np.minimum(minus_log10_p / FULL_MOTIF, 1)


def edge_scores(motif, link, network, correlation) -> np.ndarray:
    """Score of an edge in [0, 1] from what supports it.

    With c = |correlation| of TF and target over metacells, at least 0.05:
    motif evidence    s_m = (motif x link x c)^(1/3), zero without a motif site in a linked peak;
    network evidence  s_n = (network x c)^(1/2), zero for an edge that the network lacks;
    score             1 - (1 - s_m)(1 - s_n): either suffices, both together count more.

    Parameters
    ----------
    motif, link, network
        Strengths in [0, 1], zero where absent.
    correlation
        In [-1, 1].
    """
    c = np.clip(np.abs(correlation), LEAST_CORRELATION, 1)
    from_motif, from_network = np.cbrt(motif * link * c), np.sqrt(network * c)
    return 1 - (1 - from_motif) * (1 - from_network)


def edge_signs(correlation, network_sign, measured: bool) -> np.ndarray:
    """Sign of an edge: +1, -1, or 0 if unknown.

    The sign of the correlation with a measured TF if that is 0.05 or more, else the network's. The profile of an
    unmeasured TF is made with the network's signs, so there the network comes first.
    """
    from_data = np.where(np.abs(correlation) >= SIGN_CORRELATION, np.sign(correlation), 0)
    first, second = (from_data, network_sign) if measured else (network_sign, from_data)
    return np.where(first != 0, first, second).astype(np.int64)


def target_correlations(tf: str, evidence: Evidence, network_G: np.ndarray) -> tuple[np.ndarray, bool]:
    """Correlation of every gene with a TF over metacells.

    A TF that is no gene of the data is represented by its regulon: each target is correlated with the mean of the
    TF's other targets (signed, weighted by the network), which says how well the target fits the rest.

    Parameters
    ----------
    tf
        Symbol.
    evidence
        Expression of all genes.
    network_G
        Signed network weight of every gene for this TF.

    Returns
    -------
    correlation
        Length G.
    measured
        Whether the TF is a gene of the data.
    """
    row = evidence.genes.get_indexer([tf])[0]
    if row >= 0:
        return np.clip(evidence.expression @ evidence.expression[row], -1, 1).astype(float), True
    members = np.flatnonzero(network_G)
    correlation = np.zeros(len(evidence.genes))
    own = evidence.expression[members] * network_G[members, None]
    others = own.sum(axis=0) - own
    length = np.linalg.norm(others, axis=1)
    products = np.einsum("gm,gm->g", evidence.expression[members], others)
    correlation[members] = np.clip(products / np.where(length > 0, length, np.inf), -1, 1)
    return correlation, False


def best_links(gene: np.ndarray, strength: np.ndarray, n_genes: int) -> np.ndarray:
    """Position of the strongest link of every gene, -1 for a gene without one; the first wins a tie."""
    best = np.full(n_genes, -1, dtype=np.int64)
    weakest_first = np.lexsort((-np.arange(len(gene)), strength))
    best[gene[weakest_first]] = weakest_first
    return best


def regulon_of(
    tf: str, evidence: Evidence, network: pd.DataFrame | None, max_targets: int
) -> tuple[pd.DataFrame, dict]:
    """Edges of one TF, strongest first, one row per target with the CRE that supports it best.

    Parameters
    ----------
    tf
        Symbol.
    evidence
        Everything known.
    network
        The network's edges of this TF, or None.
    max_targets
        Targets kept.

    Returns
    -------
    edges
        DataFrame with the columns `COLUMNS`.
    counts
        Targets found, self edges, and targets beyond the bound.
    """
    n_genes = len(evidence.genes)
    # The best link of a gene is its CRE where only the network supports the edge.
    cre_G, motif_G, sites_G = evidence.best_link.copy(), np.zeros(n_genes), np.zeros(n_genes, dtype=np.int64)
    row = evidence.motif_row.get(tf)
    if row is not None:
        # One TF at a time: all TFs by all links would not fit into memory for a whole genome.
        sites = evidence.motif_sites[row] @ evidence.links_of_peak
        sites.sort_indices()
        link, motif = sites.indices, sites.data
        gene = evidence.link_gene[link]
        best = best_links(gene, motif * evidence.link_score[link], n_genes)
        hit = best >= 0
        cre_G[hit], motif_G[hit], sites_G = link[best[hit]], motif[best[hit]], np.bincount(gene, minlength=n_genes)
    link_G = np.where(cre_G >= 0, evidence.link_score[cre_G], 0.0) if len(evidence.link_score) else np.zeros(n_genes)
    network_G, sign_G = np.zeros(n_genes), np.zeros(n_genes, dtype=np.int64)
    if network is not None:
        position = evidence.genes.get_indexer(network["target"])
        network_G[position], sign_G[position] = network["weight"], network["sign"]
    # A weight of unknown sign counts as activation.
    signed_G = network_G * np.where(sign_G < 0, -1, 1)
    correlation_G, measured = target_correlations(tf, evidence, signed_G)
    # Of an unmeasured TF only targets that go with the others in the network's direction are supported.
    support_G = correlation_G if measured else np.maximum(correlation_G * np.sign(signed_G), 0)
    score_G = edge_scores(motif_G, link_G, network_G, support_G).round(6)
    found = score_G > 0
    own = np.asarray(evidence.genes == tf)
    target = np.flatnonzero(found & ~own)
    kept = target[np.argsort(-score_G[target], kind="stable")[:max_targets]]
    cre = np.append(evidence.link_peak, "")[cre_G[kept]]
    columns = (
        tf,
        evidence.genes.to_numpy()[kept],
        cre,
        score_G[kept],
        edge_signs(correlation_G, sign_G, measured)[kept],
        motif_G[kept].round(6),
    )
    columns += (link_G[kept].round(6), correlation_G[kept].round(5), signed_G[kept].round(6), sites_G[kept], measured)
    edges = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)), index=range(len(kept)))
    counts = {
        "edges_found": len(target),
        "motif_self_edges": int((found & own).sum()),
        "edges_beyond_max_targets": len(target) - len(kept),
    }
    return edges, counts


def build(
    evidence: Evidence, tfs, *, min_targets: int, max_targets: int, max_regulons: int
) -> tuple[pd.DataFrame, dict]:
    """Build the regulons of all TFs and bound their size and number.

    Parameters
    ----------
    evidence
        Everything known.
    tfs
        TFs that may have a regulon.
    min_targets
        Regulons with fewer targets are dropped.
    max_targets
        Strongest targets kept per TF.
    max_regulons
        Regulons kept, by summed score.

    Returns
    -------
    edges
        Sorted by source, then from strong to weak.
    counts
        What was found and what was left out, by reason.
    """
    by_tf = {} if evidence.network is None else dict(list(evidence.network.groupby("source")))
    counts = {"edges_found": 0, "motif_self_edges": 0, "edges_beyond_max_targets": 0, "edges_below_min_targets": 0}
    regulons = []
    for tf in sorted(tfs):
        edges, found = regulon_of(tf, evidence, by_tf.get(tf), max_targets)
        for name, value in found.items():
            counts[name] += value
        if len(edges) >= min_targets:
            regulons.append(edges)
        else:
            counts["edges_below_min_targets"] += len(edges)
    counts |= {"tfs_considered": len(tfs), "regulons_below_min_targets": len(tfs) - len(regulons)}
    strongest = sorted(regulons, key=lambda edges: (-round(edges["score"].sum(), 6), edges["source"].iloc[0]))[
        :max_regulons
    ]
    counts["regulons_beyond_max_regulons"] = len(regulons) - len(strongest)
    table = (
        pd.concat(sorted(strongest, key=lambda edges: edges["source"].iloc[0]), ignore_index=True)
        if strongest
        else pd.DataFrame(columns=COLUMNS)
    )
    return table, counts


def describe(table: pd.DataFrame) -> dict:
    """Counts of a regulon table: regulons, edges, their signs and their support."""
    sizes = table.groupby("source").size()
    return {
        "regulons": len(sizes),
        "edges": len(table),
        "targets": int(table["target"].nunique()),
        "median_targets": float(sizes.median()) if len(sizes) else 0.0,
        "activating": int((table["sign"] > 0).sum()),
        "repressing": int((table["sign"] < 0).sum()),
        "sign_unknown": int((table["sign"] == 0).sum()),
        "edges_with_motif": int((table["motif_score"] > 0).sum()),
        "edges_in_network": int((table["network"] != 0).sum()),
        "edges_with_both": int(((table["motif_score"] > 0) & (table["network"] != 0)).sum()),
        "edges_with_cre": int((table["cre"] != "").sum()),
        "regulons_of_unmeasured_tfs": int(table.loc[~table["tf_measured"].astype(bool), "source"].nunique()),
    }


def write_gmt(table: pd.DataFrame, path) -> None:
    """Write regulons as gene sets: TF, description, targets from strong to weak."""
    with open(path, "w") as handle:
        for tf, edges in table.groupby("source", sort=True):
            signs = f"{(edges['sign'] > 0).sum()} activated, {(edges['sign'] < 0).sum()} repressed"
            handle.write("\t".join([tf, f"regulon of {tf}: {signs}", *edges["target"]]) + "\n")
