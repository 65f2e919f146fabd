"""The standard views of the counts: PCA of RNA, LSI of ATAC, and a UMAP of each. Counts stay as they are."""

import logging
import warnings

import numpy as np

N_COMPONENTS, N_TOP_GENES, N_NEIGHBOURS = 50, 2000, 15
MIN_CELLS_FOR_UMAP = 10


def add_rna_views(rna, *, seed: int, n_top_genes: int = N_TOP_GENES, n_components: int = N_COMPONENTS) -> None:
    """Add X_pca and X_umap to obsm and highly_variable to var of raw RNA counts, the way scanpy's tutorial does.

    Counts are normalised to 10,000 per cell and log1p-transformed in a copy; PCA is over the highly variable genes.
    Fewer components are made where cells or genes are few.

    Parameters
    ----------
    rna
        AnnData, cells x genes, raw counts; changed in place, X untouched.
    seed
        Seed of PCA and UMAP.
    n_top_genes
        Number of highly variable genes.
    n_components
        Largest number of components.
    """
    import scanpy as sc

    work = _copy(rna)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some cells have zero counts")
        sc.pp.normalize_total(work, target_sum=1e4)
    sc.pp.log1p(work)
    rna.var["highly_variable"] = _highly_variable(work, n_top_genes)
    chosen = work.X[:, rna.var["highly_variable"].to_numpy()]
    rna.obsm["X_pca"] = _components(chosen, n_components, seed, centre=True)
    rna.obsm["X_umap"] = umap(rna.obsm["X_pca"], seed)


def add_atac_views(atac, *, seed: int, n_components: int = N_COMPONENTS) -> None:
    """Add X_lsi and X_umap to obsm of raw ATAC counts: TF-IDF by muon, then SVD.

    The first component follows sequencing depth and is left out, as is the custom; the others are scaled to mean 0 and
    variance 1. The SVD is scikit-learn's, because muon's starts from an unseeded vector.

    References
    ----------
    Cusanovich et al. 2015, Science 348:910; https://muon.readthedocs.io (muon.atac.pp.tfidf).
    """
    import muon

    work = _copy(atac)
    seen = np.asarray((work.X > 0).sum(axis=0)).ravel() > 0
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")
        weights = muon.atac.pp.tfidf(work[:, seen].copy(), inplace=False, scale_factor=1e4)
    weights.data = np.nan_to_num(weights.data, posinf=0.0, neginf=0.0)
    lsi = _components(weights, n_components + 1, seed, centre=False)[:, 1:]
    spread = lsi.std(axis=0)
    atac.obsm["X_lsi"] = ((lsi - lsi.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    atac.obsm["X_umap"] = umap(atac.obsm["X_lsi"], seed)


def umap(embedding: np.ndarray, seed: int) -> np.ndarray:
    """UMAP (cells x 2, float32) of an embedding; its first two columns where cells are too few for one."""
    n_cells, n_columns = embedding.shape
    if n_cells < MIN_CELLS_FOR_UMAP or n_columns < 2:
        flat = np.zeros((n_cells, 2), np.float32)
        flat[:, : min(2, n_columns)] = embedding[:, :2]
        return flat
    import anndata
    import scanpy as sc
    from threadpoolctl import threadpool_limits

    work = anndata.AnnData(obsm={"X": embedding}, shape=(n_cells, 0))
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        # The exact search of scikit-learn gives the same neighbours on every machine.
        n_neighbours = min(N_NEIGHBOURS, n_cells - 1)
        sc.pp.neighbors(work, n_neighbors=n_neighbours, use_rep="X", transformer="sklearn", random_state=seed)
        sc.tl.umap(work, random_state=seed)
    return work.obsm["X_umap"].astype(np.float32)


def _copy(table):
    """Take the counts as float, without what else the table carries."""
    import anndata

    return anndata.AnnData(table.X.astype(np.float32), obs=table.obs[[]].copy(), var=table.var[[]].copy())


def _highly_variable(work, n_top_genes: int) -> np.ndarray:
    """Mask of the highly variable genes; all genes where there are no more, or the counts are too few to rank them."""
    import scanpy as sc

    if n_top_genes >= work.n_vars:
        return np.ones(work.n_vars, bool)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sc.pp.highly_variable_genes(work, n_top_genes=n_top_genes, inplace=False)[
                "highly_variable"
            ].to_numpy()
    except (ValueError, IndexError) as error:
        logging.info("highly variable genes: all taken, scanpy could not rank them (%s)", error)
        return np.ones(work.n_vars, bool)


def _components(matrix, n_components: int, seed: int, *, centre: bool) -> np.ndarray:
    """Scores on the leading components, largest first; as many as the matrix allows."""
    import scanpy as sc
    from threadpoolctl import threadpool_limits

    n_components = min(n_components, min(matrix.shape) - 1)
    if n_components < 1:
        return np.zeros((matrix.shape[0], 1), np.float32)
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        scores = sc.pp.pca(matrix, n_comps=n_components, zero_center=centre, svd_solver="arpack", random_state=seed)
    return np.asarray(scores, np.float32)
