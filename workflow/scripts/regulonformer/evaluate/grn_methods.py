"""Scores of TF-gene edges by our regulons and by the simple methods that they have to beat."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse, stats

from regulonformer import decompose

TREES = 100


@dataclass
class Edges:
    """What TF-gene edges are judged on. TFs T, genes G, cells N.

    Attributes
    ----------
    tfs, genes
        Symbols, length T and G; every TF that is measured is also a gene.
    """

    tfs: pd.Index
    genes: pd.Index

    def matrix(self, table: pd.DataFrame, value: str) -> np.ndarray:
        """T x G scores of an edge table (source, target, value); the largest counts where an edge stands twice."""
        tf, gene = self.tfs.get_indexer(table["source"]), self.genes.get_indexer(table["target"])
        known = (tf >= 0) & (gene >= 0)
        scores = np.zeros((len(self.tfs), len(self.genes)))
        np.maximum.at(scores, (tf[known], gene[known]), table[value].to_numpy(float)[known])
        return scores

    def judged(self) -> np.ndarray:
        """T x G: every pair but a TF with itself."""
        return self.tfs.to_numpy()[:, None] != self.genes.to_numpy()[None]


def log_normalise(counts, genes=None) -> np.ndarray:
    """Dense log1p of counts per 10,000 of all genes, float32, cells x the columns asked for (None: all)."""
    values = decompose.log_normalise(sparse.csr_matrix(counts))
    return (values if genes is None else values[:, genes]).toarray()


def correlations(expression: np.ndarray, edges: Edges, kind: str) -> np.ndarray:
    """|Pearson| or |Spearman| correlation of every TF with every gene over cells; 0 for a TF that is not measured.

    Parameters
    ----------
    expression
        Cells x genes, log-normalised.
    edges
        What is judged.
    kind
        `pearson` or `spearman`.
    """
    values = stats.rankdata(expression, axis=0) if kind == "spearman" else expression
    centred = values - values.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=0)
    unit = (centred / np.where(length > 1e-9, length, np.inf)).astype(np.float32)
    scores = np.zeros((len(edges.tfs), len(edges.genes)))
    row = edges.genes.get_indexer(edges.tfs)
    scores[row >= 0] = np.abs(unit[:, row[row >= 0]].T @ unit)
    return scores


def tree_importances(expression: np.ndarray, edges: Edges, *, seed: int, threads: int = 1) -> np.ndarray:
    """Importance of every TF for every gene in a forest of extremely randomised trees.

    GENIE3's model of one regression per gene (Huynh-Thu et al. 2010, doi:10.1371/journal.pone.0012776), which GRNBoost2
    follows with boosted trees. Importances of a gene sum to one; on simulated data that ranks edges better than
    importances in proportion to the variance that the forest explains.
    """
    from joblib import Parallel, delayed

    row = edges.genes.get_indexer(edges.tfs)
    measured = np.flatnonzero(row >= 0)
    regulators = np.ascontiguousarray(expression[:, row[measured]])
    columns = np.array_split(np.arange(len(edges.genes)), max(1, len(edges.genes) // 50))
    jobs = (delayed(_importances)(regulators, expression[:, part], row[measured], part, seed) for part in columns)
    scores = np.zeros((len(edges.tfs), len(edges.genes)))
    scores[measured] = np.concatenate(Parallel(n_jobs=threads)(jobs)).T
    return scores


def _importances(regulators, targets, regulator_row, target_row, seed) -> np.ndarray:
    """Genes x TFs importances; a TF never predicts itself."""
    from sklearn.ensemble import ExtraTreesRegressor

    scores = np.zeros((len(target_row), regulators.shape[1]))
    for i, gene in enumerate(target_row):
        others = np.flatnonzero(regulator_row != gene)
        if targets[:, i].std() == 0 or not len(others):
            continue
        forest = ExtraTreesRegressor(
            TREES, max_features=1 / 3, min_samples_leaf=5, max_samples=0.5, bootstrap=True, random_state=seed
        )
        scores[i, others] = forest.fit(regulators[:, others], targets[:, i]).feature_importances_
    return scores


def link_based(edges: Edges, links: pd.DataFrame, hits, decay_bp: float) -> dict[str, np.ndarray]:
    """Scores from motifs, links and distance, each alone and motif with distance.

    Parameters
    ----------
    edges
        What is judged.
    links
        peak, gene, distance, is_promoter, score.
    hits
        `prior.motif_hits.MotifHits`, or None: the scores without motifs are then all there is.
    decay_bp
        Distance over which proximity falls by the factor e.
    """
    gene = edges.genes.get_indexer(links["gene"])
    known = gene >= 0
    links, gene = links[known], gene[known]
    proximity = np.where(links["is_promoter"], 1.0, np.exp(-links["distance"].abs() / decay_bp))
    found = {
        "link only": _same_for_all(edges, gene, links["score"]),
        "distance only": _same_for_all(edges, gene, proximity),
    }
    if hits is None:
        return found
    everywhere = np.ones(len(links))
    motif = {"motif only": everywhere, "motif and distance": proximity}
    return {name: motif_and(edges, links, hits, weight) for name, weight in motif.items()} | found


def motif_and(edges: Edges, links: pd.DataFrame, hits, weight: np.ndarray) -> np.ndarray:
    """T x G: largest product of motif strength (-log10 p) and the link's weight over the peaks near each gene."""
    gene, column = edges.genes.get_indexer(links["gene"]), pd.Index(hits.peaks).get_indexer(links["peak"])
    scanned = np.flatnonzero((gene >= 0) & (column >= 0))
    row_of = {tf: row for row, tf in enumerate(hits.tfs)}
    scores = np.zeros((len(edges.tfs), len(edges.genes)))
    for t, tf in enumerate(edges.tfs):
        if tf in row_of:
            strength = np.asarray(hits.scores[row_of[tf]].toarray()).ravel()[column[scanned]]
            np.maximum.at(scores[t], gene[scanned], strength * weight[scanned])
    return scores


def _same_for_all(edges: Edges, gene: np.ndarray, value) -> np.ndarray:
    """Best value of each gene, for every TF alike."""
    best = np.zeros(len(edges.genes))
    np.maximum.at(best, gene, np.asarray(value, float))
    return np.tile(best, (len(edges.tfs), 1))


def shuffled_edges(table: pd.DataFrame, *, seed: int, swaps_per_edge: int = 10, forbidden=frozenset()) -> pd.DataFrame:
    """Rewire an edge table so that every TF and every gene keeps its number of edges.

    Two edges swap their targets unless that makes an edge twice or of a TF with itself (Maslov and Sneppen 2002,
    doi:10.1126/science.1065103). Scores stay with their TF.

    Parameters
    ----------
    table
        source, target and any scores; pairs are unique.
    seed
        Seed of the swaps.
    swaps_per_edge
        Swaps tried per edge.
    forbidden
        Pairs (source, target) that no swap may make.
    """
    source, target = table["source"].to_numpy(object), table["target"].to_numpy(object).copy()
    present = set(zip(source, target, strict=True))
    rng = np.random.default_rng(seed)
    pairs = rng.integers(len(table), size=(swaps_per_edge * len(table), 2))
    for i, j in pairs:
        first, second = (source[i], target[j]), (source[j], target[i])
        if {first, second} & present or first[0] == first[1] or second[0] == second[1] or {first, second} & forbidden:
            continue
        present -= {(source[i], target[i]), (source[j], target[j])}
        present |= {first, second}
        target[i], target[j] = target[j], target[i]
    return table.assign(target=target)
