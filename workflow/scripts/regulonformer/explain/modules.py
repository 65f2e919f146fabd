"""Gene modules of a cell state, and its network of TFs and targets, from contextual gene vectors."""

import networkx as nx
import numpy as np
import pandas as pd
from sklearn.neighbors import kneighbors_graph

NEIGHBOURS = 15
RESOLUTION = 1.0


def centred(vectors: np.ndarray) -> np.ndarray:
    """Vectors less their mean, at length 1; what all genes share would make every cosine high.

    Parameters
    ----------
    vectors
        Genes x D.
    """
    vectors = np.asarray(vectors, np.float64)
    vectors = vectors - vectors.mean(0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def gene_modules(vectors: np.ndarray, seed: int, resolution: float = RESOLUTION) -> np.ndarray:
    """Group genes of similar vectors: communities of their neighbour graph.

    Louvain's method (Blondel et al. 2008, doi:10.1088/1742-5468/2008/10/P10008) on the graph of the 15 nearest genes
    by cosine; scDMC uses Leiden's on the same graph.

    Parameters
    ----------
    vectors
        Genes x D, without NaN.
    seed
        Seed of the order in which nodes are moved.
    resolution
        Higher gives more, smaller modules.

    Returns
    -------
    numpy.ndarray
        Module of each gene, from 0, the largest first.
    """
    unit = centred(vectors)
    # Of unit vectors, the order by distance is that by cosine.
    nearest = kneighbors_graph(unit, min(NEIGHBOURS, len(unit) - 1))
    graph = nearest.maximum(nearest.T)
    row, column = graph.nonzero()
    weight = np.clip((unit[row] * unit[column]).sum(1), 0, None)
    network = nx.Graph()
    network.add_nodes_from(range(len(unit)))
    network.add_weighted_edges_from(zip(row.tolist(), column.tolist(), weight.tolist(), strict=True))
    found = nx.community.louvain_communities(network, resolution=resolution, seed=seed)
    found.sort(key=lambda genes: (-len(genes), min(genes)))
    module = np.empty(len(unit), int)
    for number, genes in enumerate(found):
        module[list(genes)] = number
    return module


def tf_network(vectors: np.ndarray, symbols: np.ndarray, is_tf: np.ndarray) -> np.ndarray:
    """Cosine similarity of every TF with every gene; TFs x genes, a TF with itself 0.

    Parameters
    ----------
    vectors
        Genes x D, without NaN.
    symbols
        Of the genes.
    is_tf
        Which genes are TFs.
    """
    unit = centred(vectors)
    scores = unit[is_tf] @ unit.T
    scores[symbols[is_tf][:, None] == symbols[None]] = 0.0
    return scores


def network_table(scores: np.ndarray, symbols: np.ndarray, is_tf: np.ndarray, top: int) -> pd.DataFrame:
    """The strongest targets of each TF: source, target, similarity.

    Parameters
    ----------
    scores, symbols, is_tf
        See `tf_network`.
    top
        Targets per TF, those of the highest similarity without its sign.
    """
    tfs, top = symbols[is_tf], min(top, scores.shape[1] - 1)
    best = np.argsort(-np.abs(scores), axis=1, kind="stable")[:, :top]
    return pd.DataFrame(
        {
            "source": np.repeat(tfs, top),
            "target": symbols[best.ravel()],
            "similarity": np.take_along_axis(scores, best, 1).ravel(),
        }
    )
