"""What the baselines see of a cell: components of both modalities, or genes and peaks as they are."""

import numpy as np
from scipy import sparse

from regulonformer.decompose import AtacLsi, RnaPca, highly_variable, log_normalise


def components(rna, atac, train: np.ndarray, settings, seed: int) -> dict[str, np.ndarray]:
    """PCA of RNA, LSI of ATAC, and both side by side, learned from the training cells.

    Parameters
    ----------
    rna, atac
        Counts, cells x genes and cells x peaks; None for one that no cell has. A cell that lacks one has an empty row.
    train
        (N,) bool.
    settings
        `EvaluateSettings`: pca_components, n_top_genes.
    seed
        Seed of the randomised decompositions.

    Returns
    -------
    dict of str to numpy.ndarray
        Name to (N, K).
    """
    spaces = {}
    if rna is not None:
        pca = RnaPca(settings.pca_components, settings.n_top_genes, seed)
        spaces["PCA(RNA)"] = pca.fit(rna[train]).transform(rna)
    if atac is not None:
        spaces["LSI(ATAC)"] = AtacLsi(settings.pca_components, seed).fit(atac[train]).transform(atac)
    if len(spaces) == 2:
        spaces["PCA(RNA)+LSI(ATAC)"] = np.hstack([spaces["PCA(RNA)"], spaces["LSI(ATAC)"]])
    return spaces


def raw_features(rna, atac, train: np.ndarray, settings, seed: int = 0) -> dict[str, sparse.csr_matrix]:
    """Log-normalised variable genes and most open peaks, chosen on the training cells.

    Features keep their scale, so that those of common genes count for more: with each in units of its deviation the
    rare ones, mostly noise in shallow data, outvote them.

    Parameters
    ----------
    rna, atac, train
        See `components`.
    settings
        `EvaluateSettings`: n_top_genes, n_top_peaks.
    seed
        Not used: nothing is random.

    Returns
    -------
    dict of str to scipy.sparse.csr_matrix
        `raw(RNA)`, and with ATAC `raw(ATAC)` and `raw(RNA+ATAC)`: cells x features. The mean training cell has length
        1 in each modality.
    """
    spaces = {}
    if rna is not None:
        values = log_normalise(rna)
        spaces["raw(RNA)"] = _unit_length(values[:, highly_variable(values[train], settings.n_top_genes)], train)
    if atac is not None:
        open_in = atac[train].getnnz(0)
        peaks = np.argsort(-open_in, kind="stable")[: min(settings.n_top_peaks, (open_in > 0).sum())]
        spaces["raw(ATAC)"] = _unit_length(log_normalise(atac)[:, np.sort(peaks)], train)
    if len(spaces) == 2:
        spaces["raw(RNA+ATAC)"] = sparse.hstack([spaces["raw(RNA)"], spaces["raw(ATAC)"]], format="csr")
    return spaces


def _unit_length(values: sparse.csr_matrix, train: np.ndarray) -> sparse.csr_matrix:
    """Divide by the root mean square length of a training cell."""
    known = values[train]
    return values / np.float32(np.sqrt(max(known.multiply(known).sum() / known.shape[0], 1e-12)))
