"""What our model and simple methods say of every TF: how all genes change when it is lost or gained."""

import numpy as np
import pandas as pd

from regulonformer.evaluate.grn_methods import Edges, link_based

SIGNS = {"knock_out": -1.0, "over_expression": 1.0}


def signed_edges(regulons: pd.DataFrame, edges: Edges) -> np.ndarray:
    """T x N scores of regulon edges, below zero where the TF represses."""
    weight = edges.matrix(regulons, "score")
    repressed = edges.matrix(regulons.assign(repressed=(regulons["sign"] < 0).astype(float)), "repressed")
    return np.where(repressed > 0, -weight, weight)


def simple_profiles(
    tfs: pd.Index, genes: pd.Index, control, regulons, links, hits, decay_bp: float, direction: str
) -> dict[str, np.ndarray]:
    """Changes of all genes that simple methods expect of a loss (or gain) of each TF, T x N each, of any scale.

    Parameters
    ----------
    tfs, genes
        Symbols; every TF is a gene.
    control
        Values of cells that were not perturbed, cells x genes (csr).
    regulons, links
        Tables of TF-gene edges and of peak-gene links.
    hits
        `prior.motif_hits.MotifHits`, or None.
    decay_bp
        Distance over which the weight of a motif falls by the factor e.
    direction
        knock_out or over_expression.

    Returns
    -------
    dict
        regulons: signed scores of edges; correlation: Pearson with the TF over control cells; motif and distance: best
        motif near the gene, all TFs taken for activators.
    """
    edges, sign = Edges(tfs, genes), SIGNS[direction]
    profiles = {"regulons": signed_edges(regulons, edges)}
    profiles["correlation"] = _correlation(control, genes.get_indexer(tfs))
    if hits is not None:
        profiles["motif and distance"] = link_based(edges, links, hits, decay_bp)["motif and distance"]
    return {name: sign * profile for name, profile in profiles.items()}


def cosine(shift_TD: np.ndarray, moved_RD: np.ndarray) -> np.ndarray:
    """Cosine of the angle between an observed and each predicted shift of the embedding, R x T."""
    lengths = np.outer(np.linalg.norm(moved_RD, axis=1), np.linalg.norm(shift_TD, axis=1))
    return moved_RD @ shift_TD.T / np.maximum(lengths, 1e-12)


def _correlation(values, columns: np.ndarray) -> np.ndarray:
    """Pearson correlation of some columns of a csr matrix with all; 0 where a gene does not vary."""
    n_cells = values.shape[0]
    values = values.astype(np.float64)
    mean_N = np.asarray(values.mean(axis=0)).ravel()
    deviation_N = np.sqrt(np.maximum(np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean_N**2, 0))
    products = (values[:, columns].T @ values).toarray() / n_cells - np.outer(mean_N[columns], mean_N)
    scale = np.outer(deviation_N[columns], deviation_N)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-9)
