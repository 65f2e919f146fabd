"""The true gene regulatory network: which TF drives which gene, with which sign, through which CREs."""

import numpy as np
import pandas as pd

from regulonformer.simulate import lineage

REGULATORS_PER_GENE = (0.25, 0.35, 0.20, 0.13, 0.07)  # shares of genes with one to five TFs
FEWEST_TARGETS, MOST_TARGETS = 15, 60


def draw_edges(rng: np.random.Generator, tfs: pd.DataFrame, n_genes: int) -> pd.DataFrame:
    """Draw the TF -> gene edges.

    Genes have one to five TFs. TFs differ in their number of targets, 15 to 60 at the default size of the simulation.
    About three edges in four activate: most TFs activate nearly always, some repress most of the time.

    Parameters
    ----------
    tfs
        As `lineage.draw_tfs` gives them; TF i is gene i.
    n_genes
        Number of genes, TFs included, mitochondrial genes not.

    Returns
    -------
    DataFrame: source, target (row of the gene), sign; no edge twice, TF-TF edges free of cycles.
    """
    targets = _edges_to_targets(rng, tfs, n_genes)
    between = _edges_between_tfs(rng, tfs)
    return pd.concat([between, targets], ignore_index=True).sort_values(["target", "source"], ignore_index=True)


def place_edges(rng: np.random.Generator, edges: pd.DataFrame, cres: pd.DataFrame) -> pd.DataFrame:
    """Put each edge into one CRE of its target, or two, and see to it that each distal CRE carries an edge.

    Where a gene has both activators and repressors and two distal CREs or more, the last one is kept for repressors.

    Returns
    -------
    DataFrame: source, target, sign, cre (row of `cres`), effect (log fold change of the gene at full activity).
    """
    promoters, distals = (
        {gene: list(rows.index) for gene, rows in cres[cres["kind"] == kind].groupby("gene")}
        for kind in ("promoter", "distal")
    )
    rows = []
    for target, group in edges.groupby("target"):
        promoter, distal = promoters[target][0], distals.get(target, [])
        mixed = group["sign"].nunique() == 2 and len(distal) >= 2
        for sign, signed in group.groupby("sign"):
            sites = (distal[-1:] if sign < 0 else distal[:-1]) if mixed else distal
            for source, site in _pair(rng, signed["source"].to_numpy(), sites, promoter):
                rows.append((source, target, sign, site))
    placed = pd.DataFrame(rows, columns=["source", "target", "sign", "cre"])
    # The effect of an edge is shared by the CREs that carry it.
    copies = placed.groupby(["source", "target"])["cre"].transform("size")
    first = placed.groupby(["source", "target"]).ngroup()
    size = rng.uniform(1.4, 2.6, first.max() + 1)
    placed["effect"] = placed["sign"] * size[first] / copies
    return placed


def place_decoys(rng: np.random.Generator, cres: pd.DataFrame, n_tfs: int) -> pd.DataFrame:
    """Give each decoy CRE one or two TFs that bind it and drive nothing: source, cre."""
    rows = []
    for cre in cres.index[cres["kind"] == "decoy"]:
        rows += [(source, cre) for source in rng.choice(n_tfs, size=min(n_tfs, rng.integers(1, 3)), replace=False)]
    return pd.DataFrame(rows, columns=["source", "cre"], dtype=int)


def _edges_to_targets(rng: np.random.Generator, tfs: pd.DataFrame, n_genes: int) -> pd.DataFrame:
    """Edges to genes that are no TFs: slots of genes matched with a quota per TF."""
    n_tfs = len(tfs)
    genes = np.arange(n_tfs, n_genes)
    wanted = np.minimum(rng.choice(5, len(genes), p=REGULATORS_PER_GENE) + 1, n_tfs)
    quota = rng.uniform(FEWEST_TARGETS + 3, MOST_TARGETS - 8, n_tfs)
    # The knocked-out TF must matter.
    quota[tfs["knockout"]] = MOST_TARGETS - 8
    left = quota / quota.sum() * wanted.sum()
    rows = []
    # Genes with many TFs choose first, while every TF still has targets to give.
    for gene, n in sorted(zip(genes, wanted, strict=True), key=lambda item: -item[1]):
        chance = np.clip(left, 0.05, None)
        chosen = rng.choice(n_tfs, n, replace=False, p=chance / chance.sum())
        left[chosen] -= 1
        rows += [(source, gene) for source in chosen]
    edges = pd.DataFrame(rows, columns=["source", "target"])
    represses = tfs["represses"].to_numpy()[edges["source"]]
    edges["sign"] = np.where(rng.random(len(edges)) < np.where(represses, 0.75, 0.08), -1, 1)
    return edges


def _edges_between_tfs(rng: np.random.Generator, tfs: pd.DataFrame) -> pd.DataFrame:
    """One or two regulators for each TF among earlier TFs, with signs that agree with the programs."""
    reference = lineage.draw_positions(rng, 400, evenness=1e6)
    together = np.corrcoef(lineage.programs(reference, tfs) + 1e-6 * rng.standard_normal((400, len(tfs))), rowvar=False)
    represses, order = tfs["represses"].to_numpy(), lineage.flow_order(tfs)
    rows = []
    for place, target in enumerate(order):
        earlier = order[:place]
        activators = earlier[(together[earlier, target] > 0.3) & ~represses[earlier]]
        repressors = earlier[(together[earlier, target] < -0.15) & represses[earlier]]
        for candidates, sign, most in ((activators, 1, 2), (repressors, -1, 1)):
            for source in rng.permutation(candidates)[: rng.integers(0, most + 1)]:
                rows.append((source, target, sign))
    return pd.DataFrame(rows, columns=["source", "target", "sign"], dtype=int)


def _pair(rng: np.random.Generator, sources: np.ndarray, sites: list[int], promoter: int) -> list[tuple[int, int]]:
    """Pair TFs with CREs so that each TF has one and each distal CRE is used; now and then the promoter serves too."""
    if not sites:
        return [(source, promoter) for source in sources]
    n = max(len(sources), len(sites))
    pairs = list(zip(np.resize(rng.permutation(sources), n), np.resize(sites, n), strict=True))
    return pairs + [(source, promoter) for source in sources if rng.random() < 0.15]
