"""PCA of RNA and LSI of ATAC, learned from training cells only and applied to any others."""

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD

SCALE_LIMIT = 10.0  # z-scores beyond it are clipped, as in the Seurat and Scanpy tutorials
COUNTS_PER_CELL = 1e4


class RnaPca:
    """Highly variable genes, log1p of counts per 10,000, scaling, PCA; all learned from the training cells.

    Parameters
    ----------
    n_components
        Components wanted.
    n_top_genes
        Genes kept by the normalised dispersion of the log-normalised values (Satija 2015, Scanpy's `seurat`).
    seed
        Seed of the randomised SVD.
    """

    def __init__(self, n_components: int, n_top_genes: int, seed: int) -> None:
        self.n_components, self.n_top_genes, self.seed = n_components, n_top_genes, seed

    def fit(self, counts: sparse.csr_matrix) -> "RnaPca":
        """Learn genes, scale and components from training cells (cells x genes counts)."""
        values = log_normalise(counts)
        self.genes = highly_variable(values, self.n_top_genes)
        dense = values[:, self.genes].toarray()
        self.mean, self.std = dense.mean(0), np.maximum(dense.std(0), 1e-6)
        n = min(self.n_components, *dense.shape)
        self.pca = PCA(n, svd_solver="randomized", random_state=self.seed).fit(self._scale(dense))
        return self

    def transform(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Project cells (cells x genes counts) on the components, in units of the first one's deviation."""
        scores = self.pca.transform(self._scale(log_normalise(counts)[:, self.genes].toarray()))
        return scores / np.sqrt(self.pca.explained_variance_[0])

    def _scale(self, dense: np.ndarray) -> np.ndarray:
        return np.clip((dense - self.mean) / self.std, -SCALE_LIMIT, SCALE_LIMIT)


class AtacLsi:
    """TF-IDF and truncated SVD of the peak matrix (Cusanovich 2015), learned from the training cells.

    The first component follows the number of fragments and is left out, as Signac and muon advise.

    Parameters
    ----------
    n_components
        Components wanted.
    seed
        Seed of the randomised SVD.
    """

    def __init__(self, n_components: int, seed: int) -> None:
        self.n_components, self.seed = n_components, seed

    def fit(self, counts: sparse.csr_matrix) -> "AtacLsi":
        """Learn inverse document frequencies and components from training cells (cells x peaks counts)."""
        open_in = np.asarray((counts > 0).sum(0)).ravel()
        self.peaks = np.flatnonzero(open_in)
        self.idf = counts.shape[0] / np.maximum(open_in, 1)
        n = max(1, min(self.n_components + 1, counts.shape[0] - 1, len(self.peaks) - 1))
        self.svd = TruncatedSVD(n, algorithm="randomized", n_iter=4, random_state=self.seed)
        scores = self.svd.fit_transform(self._tf_idf(counts))[:, 1:]
        self.mean = scores.mean(0)
        self.scale = max(scores.std(0).max(initial=0.0), 1e-6)
        return self

    def transform(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Project cells (cells x peaks counts) on the components, in units of the largest deviation."""
        return (self.svd.transform(self._tf_idf(counts))[:, 1:] - self.mean) / self.scale

    def _tf_idf(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        frequency = _per_cell(counts, COUNTS_PER_CELL) @ sparse.diags(self.idf.astype(np.float32))
        return frequency.log1p()[:, self.peaks].tocsr()


def log_normalise(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Compute log1p of counts per 10,000, as float32 CSR of the same shape."""
    return _per_cell(counts, COUNTS_PER_CELL).log1p()


def highly_variable(values: sparse.csr_matrix, n_top: int) -> np.ndarray:
    """Indices of the most variable genes of log-normalised values; all genes if there are no more than wanted."""
    expressed = np.flatnonzero(np.asarray((values > 0).sum(0)).ravel())
    if len(expressed) <= n_top:
        return expressed
    import anndata as ad
    import scanpy as sc

    table = sc.pp.highly_variable_genes(ad.AnnData(values[:, expressed]), n_top_genes=n_top, inplace=False)
    return expressed[table["highly_variable"].to_numpy()]


def _per_cell(counts: sparse.csr_matrix, total: float) -> sparse.csr_matrix:
    """Scale each cell to the same total; empty cells stay empty."""
    counts = sparse.csr_matrix(counts, dtype=np.float32)
    sums = np.asarray(counts.sum(1)).ravel()
    return (sparse.diags((total / np.maximum(sums, 1)).astype(np.float32)) @ counts).tocsr()
