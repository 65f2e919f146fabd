"""Mean profile and principal components of a set of cells: what pretraining starts from and is measured against."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA

from regulonformer.corpus.encoding import TARGET_SUM, log_normalise
from regulonformer.model.heads import N_BINS, value_bins

# Cells that principal components are fitted on, at most.
LOADING_CELLS = 20_000
# Counts added to each gene, so that an unseen gene has a rate above zero.
PSEUDO_COUNT = 0.5
SIZE_RANGE = (0.05, 100.0)
# Added to a gene's standard deviation before scaling, so that rare genes do not rule the components.
SCALE_OFFSET = 0.1


def mean_profile(blocks: Iterable[tuple[sp.csr_matrix, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Fit a negative binomial per gene whose mean is library x share.

    Parameters
    ----------
    blocks
        Counts (cells x genes) and total counts per cell of some cells at a time; there is at least one.

    Returns
    -------
    tuple of numpy.ndarray
        Per gene, log of its share of all counts, and log of the size r (variance mu + mu^2 / r) by moments, kept
        within 0.05 to 100.
    """
    total = squares = product = library_sum = library_squares = 0.0
    for counts, library in blocks:
        counts, library = counts.astype(np.float64), np.asarray(library, np.float64)
        total = total + np.asarray(counts.sum(0)).ravel()
        squares = squares + np.asarray(counts.multiply(counts).sum(0)).ravel()
        product = product + counts.T @ library
        library_sum, library_squares = library_sum + library.sum(), library_squares + (library**2).sum()
    share = (total + PSEUDO_COUNT) / max(library_sum + PSEUDO_COUNT * len(total), 1.0)
    mean_squares = share**2 * library_squares
    # Sum over cells of (y - mu)^2 - mu, which is the sum of mu^2 / r.
    excess = squares - 2 * share * product + mean_squares - share * library_sum
    size = np.where(excess > 0, mean_squares / np.maximum(excess, 1e-12), SIZE_RANGE[1])
    return np.log(share), np.log(np.clip(size, *SIZE_RANGE))


class Components(NamedTuple):
    """Principal components of log-normalised, scaled counts of one modality.

    Attributes
    ----------
    loadings
        Genes x components, in units of the scaled data.
    projection
        Genes x components: takes log-normalised values less their mean to components of unit variance.
    mean
        Mean log-normalised value of each gene.
    """

    loadings: np.ndarray
    projection: np.ndarray
    mean: np.ndarray


def principal_components(counts: sp.csr_matrix, library: np.ndarray, n_components: int) -> Components:
    """Principal components of log-normalised, scaled counts.

    Parameters
    ----------
    counts
        Cells x genes.
    library
        Total counts per cell.
    n_components
        Components wanted; columns are zeros where the data have fewer.
    """
    n_genes = counts.shape[1]
    if not counts.shape[0]:  # no cell has this modality
        return Components(*np.zeros((2, n_genes, n_components)), np.zeros(n_genes))
    values = (sp.diags(TARGET_SUM / np.maximum(library, 1.0)) @ counts.astype(np.float64)).log1p().tocsr()
    mean = np.asarray(values.mean(0)).ravel()
    variance = np.asarray(values.multiply(values).mean(0)).ravel() - mean**2
    scale = np.sqrt(np.maximum(variance, 0)) + SCALE_OFFSET
    scaled = (values @ sp.diags(1 / scale)).tocsr()
    loadings, projection = (np.zeros((n_genes, n_components)) for _ in range(2))
    found = min(n_components, min(scaled.shape) - 1)
    if found > 0 and scaled.nnz:
        fit = PCA(found, svd_solver="arpack", random_state=0).fit(scaled)
        spread = np.sqrt(fit.explained_variance_)
        loadings[:, :found] = fit.components_.T * spread
        projection[:, :found] = fit.components_.T / scale[:, None] / np.maximum(spread, 1e-8)
    return Components(loadings, projection, mean)


def value_profile(
    counts: tuple[sp.csr_matrix, sp.csr_matrix], library: np.ndarray, missing: np.ndarray, binned: bool
) -> np.ndarray:
    """What values each gene has where it is active in any modality: the mean profile of `ValueModelling`.

    Parameters
    ----------
    counts
        RNA and accessibility counts, cells x genes, of some training cells.
    library
        Total counts per cell, cells x (RNA, accessibility).
    missing
        Which modality a cell lacks altogether, cells x (RNA, accessibility).
    binned
        Whether the profile is made of bins of the value, or of its mean.

    Returns
    -------
    numpy.ndarray
        Genes x modalities x 1, the mean value, or genes x modalities x bins, log of the share of each bin. Cells that
        lack a modality do not count for it, and a gene never seen has the profile of all genes.
    """
    active = (counts[0] > 0) + (counts[1] > 0)
    profiles = []
    for m in range(2):
        measured = ~missing[:, m]
        matrix = sp.csr_matrix(counts[m][measured])
        seen = np.asarray(active[measured].sum(0)).ravel()
        values = log_normalise(matrix, library[measured, m])
        if binned:
            column = matrix.indices.astype(np.int64) * N_BINS + value_bins(torch.from_numpy(values)).numpy()
            sums = np.bincount(column, minlength=len(seen) * N_BINS).reshape(-1, N_BINS).astype(np.float64)
            sums[:, 0] += seen - sums.sum(1)  # zeros of genes that are active in the other modality
        else:
            sums = np.bincount(matrix.indices, values, len(seen))[:, None]
        # Genes seen in few cells lean on all genes; a bin that is empty everywhere still has a share above zero.
        pooled = (sums.sum(0) + PSEUDO_COUNT) / (seen.sum() + PSEUDO_COUNT * sums.shape[1])
        profiles.append((sums + PSEUDO_COUNT * pooled) / (seen + PSEUDO_COUNT)[:, None])
    profile = np.stack(profiles, axis=1)
    return np.log(profile) if binned else profile
