"""Metacells: small groups of similar cells of one sample, so that associations are not drowned by single-cell noise."""

import logging

import numpy as np
from scipy import sparse

# Fewer observations than this make a correlation meaningless, so metacells shrink before their number falls below it.
MIN_METACELLS = 50
SCALE = 1e4


def group_cells(embedding: np.ndarray, samples: np.ndarray, size: int) -> np.ndarray:
    """Group cells into metacells of about equal size, within samples, so that no metacell mixes donors.

    Each sample is bisected again and again across its first principal direction, at the quantile that keeps the parts
    equal (principal direction divisive partitioning, Boley 1998, doi:10.1023/A:1009740529316). There is no randomness.

    Parameters
    ----------
    embedding
        Cells x components, for instance the PCA of RNA.
    samples
        Sample of every cell.
    size
        Wanted cells per metacell. It is lowered when there would be fewer than `MIN_METACELLS` metacells.

    Returns
    -------
    numpy.ndarray
        Metacell of every cell, 0..M-1, int64. Metacells of a sample are neighbours in number.
    """
    n_cells = len(embedding)
    fitting = max(1, min(size, n_cells // MIN_METACELLS))
    if fitting < size:
        logging.warning("%d cells are few: %d cells per metacell instead of %d", n_cells, fitting, size)
    if n_cells < MIN_METACELLS:
        logging.warning("only %d cells: associations rest on single cells and are weak evidence", n_cells)
    metacell_of_cell = np.empty(n_cells, dtype=np.int64)
    n_metacells = 0
    for sample in np.unique(samples):
        cells = np.flatnonzero(samples == sample)
        waiting = [(cells, max(1, round(len(cells) / fitting)))]
        while waiting:
            part, n_parts = waiting.pop()
            if n_parts == 1:
                metacell_of_cell[part] = n_metacells
                n_metacells += 1
                continue
            left_parts = n_parts // 2
            order = part[np.argsort(_first_component(embedding[part]), kind="stable")]
            cut = len(part) * left_parts // n_parts
            waiting += [(order[cut:], n_parts - left_parts), (order[:cut], left_parts)]
    return metacell_of_cell


def _first_component(values: np.ndarray) -> np.ndarray:
    """Coordinate of every row along the first principal direction."""
    centred = values - values.mean(axis=0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    # The sign of an eigenvector is arbitrary; fixing it keeps the numbering of metacells the same everywhere.
    return centred @ (direction * np.sign(direction[np.abs(direction).argmax()]))


def metacell_profiles(counts: sparse.spmatrix, metacell_of_cell: np.ndarray) -> np.ndarray:
    """Sum counts over metacells and log-normalise: log(1 + 10,000 x share of the metacell's counts).

    Parameters
    ----------
    counts
        Cells x features.
    metacell_of_cell
        Metacell of every cell.

    Returns
    -------
    numpy.ndarray
        Metacells x features, float32.
    """
    n_cells, n_metacells = len(metacell_of_cell), int(metacell_of_cell.max()) + 1
    members = sparse.csr_matrix(
        (np.ones(n_cells), (metacell_of_cell, np.arange(n_cells))), shape=(n_metacells, n_cells)
    )
    sums = sparse.csr_matrix(members @ sparse.csr_matrix(counts))
    totals = np.maximum(np.asarray(sums.sum(axis=1)).ravel(), 1)
    shares = sparse.diags(SCALE / totals) @ sums
    return np.log1p(shares.astype(np.float32).toarray())


def standardise(profiles: np.ndarray, sample_of_metacell: np.ndarray) -> np.ndarray:
    """Centre every feature within each sample and scale it to unit length, so that dot products are correlations.

    Centring within samples takes donor and batch shifts out of the correlation.

    Parameters
    ----------
    profiles
        Metacells x features.
    sample_of_metacell
        Sample of every metacell.

    Returns
    -------
    numpy.ndarray
        Features x metacells, float32; a feature without variance is all zero, hence correlates with nothing.
    """
    centred = np.array(profiles, dtype=np.float32)
    for sample in np.unique(sample_of_metacell):
        rows = sample_of_metacell == sample
        centred[rows] -= centred[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
    length = np.sqrt(np.square(centred, dtype=np.float32).sum(axis=0, dtype=np.float64))
    varies = length > 1e-4 * np.sqrt(len(centred))
    centred /= np.where(varies, length, np.inf).astype(np.float32)
    return np.ascontiguousarray(centred.T)


def metacells_of(multiome, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Metacell of every cell and sample of every metacell, from the PCA of RNA of a MuData."""
    samples = multiome.obs["sample"].astype(str).to_numpy()
    metacell_of_cell = group_cells(np.asarray(multiome["rna"].obsm["X_pca"], dtype=float), samples, size)
    first_cell = np.unique(metacell_of_cell, return_index=True)[1]
    return metacell_of_cell, samples[first_cell]
