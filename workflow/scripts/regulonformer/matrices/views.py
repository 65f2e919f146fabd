"""The standard views of the counts: PCA of RNA, LSI of ATAC, and a UMAP of each. Counts stay as they are.

Counts may be larger than memory: everything is fitted on some of the cells (`fit_cells`) and carried over to the
others a block at a time. Where cells are no more than that, all are fitted, and nothing is carried over.
"""

import logging
import warnings

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulonformer.io.rows import read_rows, row_blocks

N_COMPONENTS, N_TOP_GENES, N_NEIGHBOURS, FIT_CELLS = 50, 2000, 15, 20_000
TARGET_SUM = 1e4
MIN_CELLS_FOR_UMAP = 10


def rna_views(
    counts, *, seed: int, n_top_genes: int = N_TOP_GENES, n_components: int = N_COMPONENTS, fit_cells: int = FIT_CELLS
) -> tuple[np.ndarray, dict]:
    """Highly variable genes, PCA over them and UMAP of raw RNA counts, the way scanpy's tutorial does.

    Counts are normalised to 10,000 per cell and log1p-transformed. Fewer components are made where cells or genes are
    few.

    Parameters
    ----------
    counts
        csr matrix, cells x genes, on disk or in memory.
    seed
        Seed of the choice of cells, PCA and UMAP.
    n_top_genes
        Number of highly variable genes.
    n_components
        Largest number of components.
    fit_cells
        Cells that everything is fitted on, at most.

    Returns
    -------
    numpy.ndarray
        Mask of the highly variable genes.
    dict
        X_pca (cells x components) and X_umap (cells x 2), float32.
    """
    fitted = _log_normalise(read_rows(counts, fit_sample(counts.shape[0], fit_cells, seed)))
    chosen = _highly_variable(fitted, n_top_genes)
    scores = _components(
        fitted[:, chosen],
        (_log_normalise(block)[:, chosen] for block in row_blocks(counts)),
        counts.shape[0],
        n_components,
        seed,
        centre=True,
    )
    return chosen, {"X_pca": scores, "X_umap": umap(scores, seed, fit_cells)}


def atac_views(counts, *, seed: int, n_components: int = N_COMPONENTS, fit_cells: int = FIT_CELLS) -> dict:
    """LSI (TF-IDF, then SVD) and UMAP of raw ATAC counts.

    The first component follows sequencing depth and is left out, as is the custom; the others are scaled to mean 0 and
    variance 1.

    Returns
    -------
    dict
        X_lsi (cells x components) and X_umap (cells x 2), float32.

    References
    ----------
    Cusanovich et al. 2015, Science 348:910; the formula of muon (https://muon.readthedocs.io, muon.atac.pp.tfidf),
    log(1 + 10,000 TF) log(1 + IDF), with the IDF of the fitted cells.
    """
    fitted = read_rows(counts, fit_sample(counts.shape[0], fit_cells, seed)).astype(np.float32)
    idf = inverse_document_frequency(fitted)
    weights = (tf_idf(block, idf) for block in row_blocks(counts))
    lsi = _components(tf_idf(fitted, idf), weights, counts.shape[0], n_components + 1, seed, centre=False)[:, 1:]
    spread = lsi.std(axis=0)
    lsi = ((lsi - lsi.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    return {"X_lsi": lsi, "X_umap": umap(lsi, seed, fit_cells)}


def umap(embedding: np.ndarray, seed: int, fit_cells: int = FIT_CELLS) -> np.ndarray:
    """UMAP (cells x 2, float32) of an embedding; its first two columns where cells are too few for one.

    Cells beyond `fit_cells` stand at the mean of their nearest fitted cells, weighted by inverse distance, which is
    where UMAP's own transform starts from (McInnes et al. 2018, arXiv:1802.03426).
    """
    n_cells, n_columns = embedding.shape
    if n_cells < MIN_CELLS_FOR_UMAP or n_columns < 2:
        flat = np.zeros((n_cells, 2), np.float32)
        flat[:, : min(2, n_columns)] = embedding[:, :2]
        return flat
    sample = fit_sample(n_cells, fit_cells, seed)
    fitted = _umap(embedding[sample], seed)
    if len(sample) == n_cells:
        return fitted
    from sklearn.neighbors import KNeighborsRegressor

    nearest = KNeighborsRegressor(N_NEIGHBOURS, weights="distance").fit(embedding[sample], fitted)
    layout = nearest.predict(embedding).astype(np.float32)
    layout[sample] = fitted
    return layout


def harmony(embedding: np.ndarray, batches: np.ndarray, seed: int) -> np.ndarray:
    """Return an embedding with batches aligned (Korsunsky et al. 2019, Nature Methods 16:1289; harmony-pytorch).

    Parameters
    ----------
    embedding
        Cells x components.
    batches
        Of each cell.
    seed
        Seed of its clustering.
    """
    from harmony import harmonize

    batches = pd.DataFrame({"batch": batches})
    # Harmony's own number, but never none.
    n_clusters = max(2, min(100, len(embedding) // 30))
    aligned = harmonize(
        embedding, batches, batch_key="batch", n_clusters=n_clusters, random_state=seed, n_jobs=1, verbose=False
    )
    return np.asarray(aligned, np.float32)


def fit_sample(n_cells: int, fit_cells: int, seed: int) -> np.ndarray:
    """Cells that a view is fitted on, in order: all, or a random `fit_cells` of them."""
    if n_cells <= fit_cells:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, fit_cells, replace=False))


def inverse_document_frequency(counts: sp.csr_matrix) -> np.ndarray:
    """log(1 + cells / counts) per peak; 0 for a peak without counts."""
    total = np.asarray(counts.sum(axis=0)).ravel()
    return np.where(total > 0, np.log1p(counts.shape[0] / np.maximum(total, 1)), 0).astype(np.float32)


def tf_idf(counts: sp.csr_matrix, idf: np.ndarray) -> sp.csr_matrix:
    """log(1 + 10,000 counts / total of the cell) times the weight of the peak (float32)."""
    weights = _log_normalise(counts)
    weights.data *= idf[weights.indices]
    return weights


def _umap(embedding: np.ndarray, seed: int) -> np.ndarray:
    """UMAP of all cells of an embedding."""
    import anndata
    import scanpy as sc
    from threadpoolctl import threadpool_limits

    n_cells = len(embedding)
    work = anndata.AnnData(obsm={"X": embedding}, shape=(n_cells, 0))
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        # The exact search of scikit-learn gives the same neighbours on every machine.
        n_neighbours = min(N_NEIGHBOURS, n_cells - 1)
        sc.pp.neighbors(work, n_neighbors=n_neighbours, use_rep="X", transformer="sklearn", random_state=seed)
        sc.tl.umap(work, random_state=seed)
    return work.obsm["X_umap"].astype(np.float32)


def _log_normalise(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log1p of counts per 10,000 (float32); an empty cell stays empty."""
    import scanpy as sc

    work = counts.astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some cells have zero counts")
        work = sc.pp.normalize_total(_table(work), target_sum=TARGET_SUM, inplace=False)["X"]
    return sc.pp.log1p(work)


def _table(matrix):
    """Matrix as AnnData."""
    import anndata

    return anndata.AnnData(matrix)


def _highly_variable(log_counts: sp.csr_matrix, n_top_genes: int) -> np.ndarray:
    """Mask of the highly variable genes; all genes where there are no more, or the counts are too few to rank them."""
    import scanpy as sc

    n_genes = log_counts.shape[1]
    if n_top_genes >= n_genes:
        return np.ones(n_genes, bool)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = sc.pp.highly_variable_genes(_table(log_counts), n_top_genes=n_top_genes, inplace=False)
        return found["highly_variable"].to_numpy()
    except (ValueError, IndexError) as error:
        logging.info("highly variable genes: all taken, scanpy could not rank them (%s)", error)
        return np.ones(n_genes, bool)


def _components(fitted, blocks, n_cells: int, n_components: int, seed: int, *, centre: bool) -> np.ndarray:
    """Scores of all cells on the leading components of the fitted ones, largest first; as many as the matrix allows.

    The SVD is scikit-learn's, because others start from an unseeded vector.
    """
    import scanpy as sc
    from threadpoolctl import threadpool_limits

    n_components = min(n_components, min(fitted.shape) - 1)
    if n_components < 1:
        return np.zeros((n_cells, 1), np.float32)
    options = {"n_comps": n_components, "zero_center": centre, "svd_solver": "arpack", "random_state": seed}
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        scores, axes, *_ = sc.pp.pca(fitted, return_info=True, **options)
        if fitted.shape[0] < n_cells:
            offset = np.asarray(fitted.mean(axis=0)).ravel() @ axes.T if centre else 0
            scores = np.concatenate([block @ axes.T - offset for block in blocks])
    return np.asarray(scores, np.float32)
