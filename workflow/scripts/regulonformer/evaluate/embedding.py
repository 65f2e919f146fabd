"""Scores of cell embeddings: how well cell types stay apart and libraries mix, after Luecken et al. 2022.

"Benchmarking atlas-level data integration in single-cell genomics", Nature Methods 19:41, Methods, section "Metrics",
doi:10.1038/s41592-021-01336-8. Every score lies between 0 and 1, and 1 is best.
"""

import numpy as np
from scipy import sparse, stats
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples
from sklearn.neighbors import NearestNeighbors

BIOLOGY = ("nmi", "ari", "asw_label", "clisi")
BATCH = ("asw_batch", "graph_connectivity", "ilisi", "kbet", "pcr_comparison")
BIOLOGY_WEIGHT = 0.6  # of the overall score; the paper's
LISI_NEIGHBOURS, GRAPH_NEIGHBOURS = 90, 15
PERPLEXITY = 30.0
KBET_NEIGHBOURS, KBET_LEVEL, MIN_LABEL_CELLS = (10, 100), 0.05, 10
BISECTIONS, TOLERANCE = 50, 1e-5


def nearest(space: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances of the k nearest other cells, each cells x k."""
    found = NearestNeighbors(n_neighbors=min(k, len(space) - 1)).fit(space)
    distances, indices = found.kneighbors()
    return indices, distances


def cluster_scores(space: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """NMI (arithmetic mean of entropies) and ARI of labels with k-means clusters, as many as there are labels."""
    clusters = KMeans(len(np.unique(labels)), n_init=3, random_state=seed).fit_predict(space)
    return {"nmi": normalized_mutual_info_score(labels, clusters), "ari": adjusted_rand_score(labels, clusters)}


def silhouette_scores(space: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> dict[str, float]:
    """Average silhouette widths.

    Parameters
    ----------
    space
        Cells x dimensions.
    labels, batches
        Of each cell.

    Returns
    -------
    dict of str to float
        `asw_label`: (1 + mean width) / 2. `asw_batch`: mean over labels of 1 - |width of batches within the label|,
        labels with cells of one batch, or with no batch of two cells, left out; NaN if all are.
    """
    scores = {"asw_label": (1 + silhouette_samples(space, labels).mean()) / 2}
    per_label = []
    for label in np.unique(labels):
        here = labels == label
        n_batches = len(np.unique(batches[here]))
        if 1 < n_batches < here.sum():
            per_label.append((1 - np.abs(silhouette_samples(space[here], batches[here]))).mean())
    return scores | {"asw_batch": float(np.mean(per_label)) if per_label else np.nan}


def graph_connectivity(indices: np.ndarray, labels: np.ndarray) -> float:
    """Mean over labels of the share of cells in the largest connected part of the label's own neighbour graph.

    Parameters
    ----------
    indices
        Neighbours, cells x k.
    labels
        Of each cell.
    """
    n_cells, k = indices.shape
    edges = (np.repeat(np.arange(n_cells), k), indices.ravel())
    graph = sparse.csr_matrix((np.ones(n_cells * k), edges), shape=(n_cells, n_cells))
    shares = []
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        _, part = connected_components(graph[here][:, here], directed=False)
        shares.append(np.bincount(part).max() / len(here))
    return float(np.mean(shares))


def lisi(indices: np.ndarray, distances: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Local inverse Simpson index: effective number of groups around each cell.

    Korsunsky et al. 2019, Nature Methods 16:1289, Methods: neighbours weigh by a Gaussian kernel whose width gives the
    wanted perplexity, a third of the neighbours at most.

    Parameters
    ----------
    indices, distances
        Neighbours, cells x k.
    groups
        Of each cell.
    """
    weights = perplexity_weights(distances, min(PERPLEXITY, distances.shape[1] / 3))
    _, codes = np.unique(groups, return_inverse=True)
    shares = np.stack([(weights * (codes[indices] == code)).sum(1) for code in range(codes.max() + 1)])
    return 1 / (shares**2).sum(0)


def perplexity_weights(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Weights exp(-beta x distance), rows summing to 1, with beta of each row by bisection on its entropy."""
    shifted = distances - distances.min(1, keepdims=True)
    low, high, beta = np.zeros(len(shifted)), np.full(len(shifted), np.inf), np.ones(len(shifted))
    for _ in range(BISECTIONS):
        weights = np.exp(-shifted * beta[:, None])
        total = weights.sum(1)
        surplus = np.log(total) + beta * (shifted * weights).sum(1) / total - np.log(perplexity)
        if (np.abs(surplus) < TOLERANCE).all():
            break
        low, high = np.where(surplus > 0, beta, low), np.where(surplus > 0, high, beta)
        beta = np.where(np.isinf(high), beta * 2, (low + np.where(np.isinf(high), 0, high)) / 2)
    return weights / total[:, None]


def lisi_scores(indices: np.ndarray, distances: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> dict:
    """Median LISI of batches (iLISI, 1: as mixed as can be) and of labels (cLISI, 1: not mixed), both from 0 to 1."""
    n_labels, n_batches = len(np.unique(labels)), len(np.unique(batches))
    by_batch, by_label = (np.median(lisi(indices, distances, groups)) for groups in (batches, labels))
    ilisi = (by_batch - 1) / (n_batches - 1) if n_batches > 1 else np.nan
    return {"ilisi": ilisi, "clisi": (n_labels - by_label) / (n_labels - 1)}


def kbet(space: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> float:
    """Share of cells around which batches are mixed as in all cells of the label, mean over labels.

    Buettner et al. 2019, Nature Methods 16:43: a chi-squared test of the batches among the nearest cells of the label,
    at 5 %. As many neighbours as a quarter of the mean batch, within 10 and 100; labels of one batch, or of fewer than
    ten cells beyond that, are left out; NaN if all are.
    """
    accepted = []
    for label in np.unique(labels):
        here = labels == label
        _, codes, sizes = np.unique(batches[here], return_inverse=True, return_counts=True)
        k = int(np.clip(sizes.mean() // 4, *KBET_NEIGHBOURS))
        if len(sizes) < 2 or here.sum() < k + MIN_LABEL_CELLS:
            continue
        indices, _ = nearest(space[here], k)
        counts = np.stack([(codes[indices] == code).sum(1) for code in range(len(sizes))])
        expected = (k * sizes / sizes.sum())[:, None]
        p = stats.chi2.sf(((counts - expected) ** 2 / expected).sum(0), len(sizes) - 1)
        accepted.append((p >= KBET_LEVEL).mean())
    return float(np.mean(accepted)) if accepted else np.nan


def explained_by_batch(space: np.ndarray, batches: np.ndarray) -> float:
    """Share of the variance of all dimensions that batches explain (principal component regression)."""
    centred = space - space.mean(0)
    between = sum((batches == b).sum() * centred[batches == b].mean(0) ** 2 for b in np.unique(batches))
    return float(between.sum() / max((centred**2).sum(), 1e-12))


def pcr_comparison(before: np.ndarray, after: np.ndarray, batches: np.ndarray) -> float:
    """How much less of the variance batches explain than before, relative to before; 0 if it is more."""
    start = explained_by_batch(before, batches)
    return max(0.0, (start - explained_by_batch(after, batches)) / start) if start > 0 else np.nan


def score_graph(indices: np.ndarray, distances: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> dict:
    """Scores that a neighbour graph is enough for; neighbours in order, cells x k."""
    connectivity = graph_connectivity(indices[:, :GRAPH_NEIGHBOURS], labels)
    return {"graph_connectivity": connectivity} | lisi_scores(indices, distances, labels, batches)


def score_space(space: np.ndarray, before: np.ndarray, labels: np.ndarray, batches: np.ndarray, seed: int) -> dict:
    """All scores of an embedding, and their means.

    Parameters
    ----------
    space
        Cells x dimensions.
    before
        Components that know of no batch, which the share of batches in the variance is compared with.
    labels, batches
        Of each cell.
    seed
        Seed of k-means.

    Returns
    -------
    dict of str to float
        The scores in `BIOLOGY` and `BATCH`; `bio_conservation` and `batch_correction`, their means; `overall`, 0.6 of
        the first and 0.4 of the second. A run of one batch has the biological scores alone.
    """
    scores = cluster_scores(space, labels, seed) | silhouette_scores(space, labels, batches)
    scores |= score_graph(*nearest(space, LISI_NEIGHBOURS), labels, batches)
    scores |= {"kbet": kbet(space, labels, batches), "pcr_comparison": pcr_comparison(before, space, batches)}
    if len(np.unique(batches)) < 2:
        scores |= dict.fromkeys(BATCH, np.nan)
    biology, batch = (np.mean([scores[name] for name in names]) for names in (BIOLOGY, BATCH))
    overall = BIOLOGY_WEIGHT * biology + (1 - BIOLOGY_WEIGHT) * batch
    return scores | {"bio_conservation": biology, "batch_correction": batch, "overall": overall}
