"""Regulons: TF -> CRE -> gene edges from motifs, peak-gene links, published networks and expression."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.prior.two_groups import Source, TwoGroups, fit_two_groups, standardise_to_null, upper_tail

# Motif support below this is none: such genes are the TF's null. Above, strata are equal in the logarithm.
LEAST_SUPPORT, SUPPORT_STRATA = 0.01, 12
# Share of a network's edges that is taken to act in the cells at hand, times the weight of the edge.
NETWORK_RELIABILITY = 0.5
NETWORK_STRATA = 10
# An association weaker than this tells no sign.
SIGN_Z = 0.5
COLUMNS = [
    "source",
    "target",
    "cre",
    "score",
    "sign",
    "motif_score",
    "link_score",
    "support",
    "association",
    "correlation",
    "network",
    "n_cres",
    "tf_measured",
]


@dataclass
class Evidence:
    """What is known before regulons are built. Genes G, links L, scanned peaks P, TFs of motifs T, components K.

    Attributes
    ----------
    genes
        Symbols, length G.
    expression
        G x K, unit length (see `association.denoise`): dot products are correlations.
    link_gene, link_peak, link_score
        Gene row (int), peak name and probability of every link, length L.
    motif_row
        Row of `site_probability` of every TF that has motifs.
    site_probability
        T x P csr: probability that the TF uses its site in a scanned peak; None without motifs.
    links_of_peak
        P x L csr of ones: the links of every scanned peak; None without motifs.
    network
        source, target, weight, sign; None without a network.
    best_link
        Strongest link of every gene, -1 without one; filled in.
    varies
        Which genes vary, bool, length G; filled in.
    """

    genes: pd.Index
    expression: np.ndarray
    link_gene: np.ndarray
    link_peak: np.ndarray
    link_score: np.ndarray
    motif_row: dict[str, int] = field(default_factory=dict)
    site_probability: sparse.csr_matrix | None = None
    links_of_peak: sparse.csr_matrix | None = None
    network: pd.DataFrame | None = None
    best_link: np.ndarray = field(init=False)
    varies: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.best_link = best_links(self.link_gene, self.link_score, len(self.genes))
        self.varies = self.expression.any(axis=1)


def best_links(gene: np.ndarray, strength: np.ndarray, n_genes: int) -> np.ndarray:
    """Position of the strongest link of every gene, -1 for a gene without one; the first wins a tie."""
    best = np.full(n_genes, -1, dtype=np.int64)
    weakest_first = np.lexsort((-np.arange(len(gene)), strength))
    best[gene[weakest_first]] = weakest_first
    return best


def motif_support(tf: str, evidence: Evidence) -> dict[str, np.ndarray]:
    """Probability that a TF reaches each gene through at least one element: 1 - prod(1 - P(site) P(link)).

    Returns
    -------
    dict
        Length G each: support; link (the one that contributes most, the gene's best where none does, -1 without
        any); motif_score (probability of the site there); n_cres (elements that contribute `LEAST_SUPPORT` or more).
    """
    n_genes = len(evidence.genes)
    link, motif_score = evidence.best_link.copy(), np.zeros(n_genes)
    row = evidence.motif_row.get(tf)
    if row is None:
        n_cres = np.zeros(n_genes, dtype=np.int64)
        return {"support": np.zeros(n_genes), "link": link, "motif_score": motif_score, "n_cres": n_cres}
    # One TF at a time: all TFs by all links would not fit into memory for a whole genome.
    sites = evidence.site_probability[row] @ evidence.links_of_peak
    sites.sort_indices()
    gene, reach = evidence.link_gene[sites.indices], sites.data * evidence.link_score[sites.indices]
    best = best_links(gene, reach, n_genes)
    hit = best >= 0
    link[hit], motif_score[hit] = sites.indices[best[hit]], sites.data[best[hit]]
    missed = np.bincount(gene, np.log1p(-np.minimum(reach, 1 - 1e-9)), n_genes)
    n_cres = np.bincount(gene[reach >= LEAST_SUPPORT], minlength=n_genes)
    return {"support": -np.expm1(missed), "link": link, "motif_score": motif_score, "n_cres": n_cres}


def correlations(tf: str, evidence: Evidence, network_G: np.ndarray) -> tuple[np.ndarray, bool]:
    """Correlation of every gene with a TF.

    A TF that is no gene of the data is represented by its regulon: the mean of its targets (signed, weighted by the
    network), for a target the mean of the others. That says how well a target fits the rest.

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
    own = evidence.expression * network_G[:, None]
    others = own.sum(axis=0) - own
    length = np.linalg.norm(others, axis=1)
    products = np.einsum("gk,gk->g", evidence.expression, others)
    return np.clip(products / np.where(length > 1e-6, length, np.inf), -1, 1), False


def supported_pairs(tf: str, evidence: Evidence, network: pd.DataFrame | None) -> tuple[pd.DataFrame, np.ndarray, int]:
    """Genes that a motif or the network gives to a TF, with the evidence for each; and the TF's null.

    Returns
    -------
    pairs
        gene (row), support, link, motif_score, n_cres, network (signed weight), network_sign, correlation, association
        (z against the genes without support, NaN where TF or gene do not vary), tf_measured.
    null
        |z| of the genes without support.
    self_edges
        1 if the TF's own gene was supported, else 0: self edges are left out.
    """
    n_genes = len(evidence.genes)
    found = motif_support(tf, evidence) | {"network": np.zeros(n_genes), "network_sign": np.zeros(n_genes, np.int64)}
    if network is not None:
        position = evidence.genes.get_indexer(network["target"])
        # A weight of unknown sign counts as activation.
        found["network"][position] = network["weight"].to_numpy() * np.where(network["sign"] < 0, -1, 1)
        found["network_sign"][position] = network["sign"]
    found["correlation"], measured = correlations(tf, evidence, found["network"])
    supported = (found["support"] >= LEAST_SUPPORT) | (found["network"] != 0)
    own = np.arange(n_genes) == evidence.genes.get_indexer([tf])[0]
    null = ~supported & ~own & evidence.varies
    z = standardise_to_null(found["correlation"], null, evidence.expression.shape[1])
    # Of a silent TF or gene association says nothing.
    found["association"] = np.where(found["correlation"] == 0, np.nan, z)
    kept = np.flatnonzero(supported & ~own)
    # Few genes of many are supported: the table is made of these alone.
    pairs = pd.DataFrame({"source": tf, "gene": kept} | {name: values[kept] for name, values in found.items()})
    pairs["tf_measured"] = measured
    return pairs, np.abs(z[null & (found["correlation"] != 0)]), int((supported & own).sum())


def edge_scores(pairs: pd.DataFrame, null: np.ndarray) -> tuple[np.ndarray, TwoGroups]:
    """Probability of every edge, from its support and association by the two-groups model.

    Sources of support are motifs, the network for measured TFs, and the network for TFs that are no gene of the data;
    each has its own strata and its own density of association. For a measured TF association of either sign counts; of
    an unmeasured one only agreement with the other targets in the network's direction.

    Parameters
    ----------
    pairs
        As from `supported_pairs`, all TFs.
    null
        |z| of unsupported pairs, all TFs.
    """
    measured = pairs["tf_measured"].to_numpy(dtype=bool)
    z, network = pairs["association"].to_numpy(), pairs["network"].to_numpy()
    borders = np.geomspace(LEAST_SUPPORT, 1, SUPPORT_STRATA + 1)
    by_motif = np.digitize(pairs["support"], borders[:-1])
    start = np.append(0, np.sqrt(borders[1:] * borders[:-1]))
    by_network = np.ceil(np.round(np.abs(network) * NETWORK_STRATA, 6)).astype(int)
    trust = NETWORK_RELIABILITY * np.arange(NETWORK_STRATA + 1) / NETWORK_STRATA
    sources = [
        Source(by_motif, start),
        # Weak association cannot tell how many edges act and how those that act look: the curators' word stands.
        Source(np.where(measured, by_network, 0), trust, learn=False),
        Source(np.where(measured, 0, by_network), trust, learn=False),
    ]
    tail = upper_tail(np.abs(z), null)
    tail = np.where(measured, tail, np.where(z * network > 0, tail / 2, 1 - tail / 2))
    model = fit_two_groups(sources, tail, len(null))
    return model.posterior([source.stratum for source in sources], tail), model


def edge_signs(association, network_sign, measured) -> np.ndarray:
    """Sign of edges: +1, -1, or 0 if unknown.

    The sign of the association with a measured TF if it is clear, else the network's. The profile of an unmeasured TF
    is made with the network's signs, so there the network comes first.
    """
    from_data = np.where(np.abs(association) >= SIGN_Z, np.sign(association), 0)  # NaN is no sign
    first, second = np.where(measured, from_data, network_sign), np.where(measured, network_sign, from_data)
    return np.where(first != 0, first, second).astype(np.int64)


def build(
    evidence: Evidence, tfs, *, min_score: float, min_targets: int, max_targets: int, max_regulons: int
) -> tuple[pd.DataFrame, dict, TwoGroups]:
    """Build the regulons of all TFs and bound their size and number.

    Parameters
    ----------
    evidence
        Everything known.
    tfs
        TFs that may have a regulon.
    min_score
        Edges below this are left out.
    min_targets
        Regulons with fewer targets are dropped.
    max_targets
        Strongest targets kept per TF.
    max_regulons
        Regulons kept, by summed score.

    Returns
    -------
    edges
        Columns `COLUMNS`; sorted by source, then from strong to weak. One row per TF and target, with the CRE that
        contributes most.
    counts
        What was found and what was left out, by reason.
    model
        Behind the scores.
    """
    by_tf = {} if evidence.network is None else dict(list(evidence.network.groupby("source")))
    tables, nulls, n_self = zip(*(supported_pairs(tf, evidence, by_tf.get(tf)) for tf in sorted(tfs)), strict=True)
    pairs, n_supported = pd.concat(tables, ignore_index=True), sum(map(len, tables))
    del tables
    score, model = edge_scores(pairs, np.concatenate(nulls))
    pairs["score"] = score.round(6)
    # Most pairs of a whole genome end here, before they cost memory.
    table = _edge_table(pairs[pairs["score"] >= min_score], evidence)
    kept, counts = _bounded(table, min_targets, max_targets, max_regulons)
    in_regulons = kept["source"].nunique() + counts["regulons_beyond_max_regulons"]
    counts |= {"edges_supported": n_supported, "edges_below_min_score": n_supported - len(table)}
    counts |= {"self_edges": sum(n_self), "tfs_considered": len(tfs)}
    counts["regulons_below_min_targets"] = len(tfs) - in_regulons
    return kept, counts, model


def _edge_table(pairs: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Pairs with names instead of row numbers, sorted by source, then from strong to weak."""
    pairs = pairs.sort_values(["source", "score", "gene"], ascending=[True, False, True], ignore_index=True)
    link = pairs["link"].to_numpy()
    measured = pairs["tf_measured"].to_numpy(dtype=bool)
    table = pairs.assign(
        target=evidence.genes.to_numpy(dtype=object)[pairs["gene"]],
        cre=np.append(evidence.link_peak, "")[link],
        link_score=np.append(evidence.link_score, 0.0)[link],
        sign=edge_signs(pairs["association"], pairs["network_sign"], measured),
        tf_measured=measured,
    )
    decimals = {"motif_score": 6, "link_score": 6, "support": 6, "association": 4, "correlation": 5, "network": 6}
    return table[COLUMNS].round(decimals)


def _bounded(table, min_targets, max_targets, max_regulons) -> tuple[pd.DataFrame, dict]:
    """Drop edges beyond the bound, then small regulons, then regulons beyond the bound."""
    first = table[table.groupby("source").cumcount() < max_targets]
    large = first[first.groupby("source")["target"].transform("size") >= min_targets]
    totals = large.groupby("source")["score"].sum().round(6).sort_index().sort_values(ascending=False, kind="stable")
    kept = large[large["source"].isin(totals.index[:max_regulons])]
    counts = {
        "edges_beyond_max_targets": len(table) - len(first),
        "edges_below_min_targets": len(first) - len(large),
        "regulons_beyond_max_regulons": max(0, len(totals) - max_regulons),
    }
    return kept.reset_index(drop=True), counts


def describe(table: pd.DataFrame, model: TwoGroups) -> dict:
    """Counts of a regulon table (regulons, edges, their signs and their support), and the model behind the scores."""
    sizes = table.groupby("source").size()
    motif, measured, unmeasured = (share[1:].round(6).tolist() for share in model.share)
    return {
        "regulons": len(sizes),
        "edges": len(table),
        "targets": int(table["target"].nunique()),
        "median_targets": float(sizes.median()) if len(sizes) else 0.0,
        "activating": int((table["sign"] > 0).sum()),
        "repressing": int((table["sign"] < 0).sum()),
        "sign_unknown": int((table["sign"] == 0).sum()),
        "edges_with_motif": int((table["support"] >= LEAST_SUPPORT).sum()),
        "edges_in_network": int((table["network"] != 0).sum()),
        "edges_with_both": int(((table["support"] >= LEAST_SUPPORT) & (table["network"] != 0)).sum()),
        "edges_with_cre": int((table["cre"] != "").sum()),
        "regulons_of_unmeasured_tfs": int(table.loc[~table["tf_measured"].astype(bool), "source"].nunique()),
        "expected_true_edges": round(float(table["score"].sum()), 1),
        "score_model": {
            "support_edges": np.geomspace(LEAST_SUPPORT, 1, SUPPORT_STRATA + 1).round(6).tolist(),
            "share_by_motif_support": motif,
            "share_by_network_weight": measured,
            "share_by_network_weight_unmeasured_tfs": unmeasured,
            "null_tail": model.edges[1:].tolist(),
            "density_ratio": model.ratio.round(4).tolist(),
            "log_likelihood_gain": round(model.log_likelihood_gain, 3),
        },
    }


def write_gmt(table: pd.DataFrame, path) -> None:
    """Write regulons as gene sets: TF, description, targets from strong to weak."""
    with open(path, "w") as handle:
        for tf, edges in table.groupby("source", sort=True):
            signs = f"{(edges['sign'] > 0).sum()} activated, {(edges['sign'] < 0).sum()} repressed"
            handle.write("\t".join([tf, f"regulon of {tf}: {signs}", *edges["target"]]) + "\n")
