"""Association of peaks and genes: correlation of denoised profiles."""

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.io.rows import row_blocks

SCALE = 1e4
PAIRS_PER_BLOCK = 65536


def basis_of(embedding: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the space of cells that an embedding spans, free of shifts between samples.

    Parameters
    ----------
    embedding
        Cells x components, for instance the PCA of RNA.
    samples
        Sample of every cell. The components are centred within each.

    Returns
    -------
    numpy.ndarray
        Cells x rank, float64, orthonormal columns.
    """
    centred = np.array(embedding, dtype=float)
    for sample in np.unique(samples):
        centred[samples == sample] -= centred[samples == sample].mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, values > 1e-6 * max(values[0], 1e-300)]


def denoise(counts, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-normalise the profile of every feature, project it onto a basis and scale it to unit length.

    The dot product of two such vectors is the Pearson correlation of the two profiles, centred within samples and
    projected onto the basis. Single-cell noise, which has little share in the main components, falls away, and a
    profile over all cells becomes a vector of about 50 numbers.

    Parameters
    ----------
    counts
        csr matrix, cells x features, on disk or in memory.
    basis
        Cells x components, orthonormal, each orthogonal to the indicator of every sample (see `basis_of`).

    Returns
    -------
    vectors
        Features x components, float32; all zero for a feature without variance, which then correlates with nothing.
    mean
        Mean count of every feature.
    """
    vectors, sums, first = np.zeros((counts.shape[1], basis.shape[1])), np.zeros(counts.shape[1]), 0
    for block in row_blocks(counts):
        sums += np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
        totals = np.maximum(np.asarray(block.sum(axis=1, dtype=np.float64)).ravel(), 1)
        shares = sparse.csr_matrix(block, dtype=np.float64, copy=True)
        shares.data = np.log1p(shares.data * np.repeat(SCALE / totals, np.diff(shares.indptr)))
        vectors += shares.T @ basis[first : first + block.shape[0]]
        first += block.shape[0]
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 1e-6, length, np.inf)).astype(np.float32), sums / max(first, 1)


def correlate(peaks: np.ndarray, genes: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Correlation of every pair.

    Parameters
    ----------
    peaks, genes
        Features x components, of unit length.
    pairs
        peak, gene: row numbers.
    """
    peak, gene = pairs["peak"].to_numpy(), pairs["gene"].to_numpy()
    blocks = [slice(start, start + PAIRS_PER_BLOCK) for start in range(0, len(pairs), PAIRS_PER_BLOCK)]
    products = [np.einsum("pk,pk->p", peaks[peak[block]], genes[gene[block]]) for block in blocks]
    return np.clip(np.concatenate(products), -1, 1).astype(float) if products else np.empty(0)
