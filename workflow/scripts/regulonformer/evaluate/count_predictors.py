"""Simple predictors of hidden counts: nearest cells, and regression on principal components."""

from itertools import product
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, svds
from sklearn.neighbors import NearestNeighbors

from regulonformer.corpus.profile import SCALE_OFFSET
from regulonformer.evaluate.masked_cells import MaskedData

# What is tried on training cells. Pseudo-counts are in libraries of mean size.
COMPONENTS, NEIGHBOURS, PSEUDO_LIBRARIES = (10, 20, 50), (15, 50, 150, 500), (3.0, 10.0, 30.0)
PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0)
# Genes that are fitted at a time.
BLOCK_GENES = 2000
# Steps of L-BFGS at most, and what makes further ones not worth it: so little a change of the loss or of a coefficient.
ITERATIONS, TOLERANCE = 20, 1e-3


class CellSpace:
    """Principal components of the visible values of both modalities.

    Genes are scaled as for the start of the gene vectors (`corpus.profile`); components are in units of the first
    one's deviation. A cell that lacks a modality has no say in its means, and is put there itself.

    Parameters
    ----------
    data
        Cells to learn scale and components from.
    n_components
        Components wanted.
    """

    def __init__(self, data: MaskedData, n_components: int) -> None:
        self.n_genes = data.visible[0].shape[1]
        values = sp.hstack(data.visible).tocsr()
        n_measured = np.repeat(np.maximum(data.measured.sum(0), 1), self.n_genes)
        mean = np.asarray(values.sum(0)).ravel() / n_measured
        variance = np.asarray(values.multiply(values).sum(0)).ravel() / n_measured - mean**2
        scale = np.sqrt(np.maximum(variance, 0)) + SCALE_OFFSET
        self.scale, self.mean = sp.diags(1 / scale), mean / scale
        n = min(n_components, min(values.shape) - 1)
        _, deviations, loadings = svds(self._centred(data), k=n, v0=np.ones(min(values.shape)))
        self.projection = loadings[::-1].T * np.sqrt(len(data.rows) - 1) / deviations.max()

    def __call__(self, data: MaskedData) -> np.ndarray:
        """Cells x components."""
        return self._centred(data) @ self.projection

    def _centred(self, data: MaskedData) -> LinearOperator:
        """Scaled values less their means, zero where a modality is missing; never dense."""
        values = (sp.hstack(data.visible).tocsr() @ self.scale).tocsr()
        measured = data.measured.astype(np.float64)
        means = sp.block_diag([part[None] for part in np.split(self.mean, [self.n_genes])]).tocsr()
        return LinearOperator(
            values.shape,
            matvec=lambda v: values @ v - measured @ (means @ v),
            rmatvec=lambda u: values.T @ u - means.T @ (measured.T @ u),
            matmat=lambda v: values @ v - measured @ (means @ v),
            dtype=np.float64,
        )


class Profile(NamedTuple):
    """Mean profile of one modality: log of each gene's share of all counts, and log of its NB size."""

    log_mean: np.ndarray
    log_size: np.ndarray


class NearestCells:
    """Counts of the nearest training cells, blended with the mean profile.

    rate = (sum of counts + pseudo x share) / (sum of totals + pseudo), pseudo being so many libraries of mean size.

    Parameters
    ----------
    space, counts, library
        Training cells: components, counts of one modality (cells x genes), total counts.
    profile
        Mean profile of that modality.
    """

    options = tuple(product(COMPONENTS, NEIGHBOURS, PSEUDO_LIBRARIES))

    def __init__(self, space: np.ndarray, counts: sp.csr_matrix, library: np.ndarray, profile: Profile) -> None:
        self.space, self.counts, self.library = space, counts.astype(np.float64), library
        self.share = np.exp(profile.log_mean)

    def log_rate(self, space: np.ndarray, option: tuple) -> np.ndarray:
        """Log of counts per library count (cells x genes) of cells given by their components."""
        n_components, k, pseudo = option
        search = NearestNeighbors(n_neighbors=min(k, len(self.space))).fit(self.space[:, :n_components])
        near = search.kneighbors_graph(space[:, :n_components])
        pseudo_count = pseudo * max(self.library.mean(), 1.0)
        total = (near @ self.library + pseudo_count)[:, None]
        return np.log(((near @ self.counts).toarray() + pseudo_count * self.share) / total)


class LogLinear:
    """Negative binomial regression of every gene on the components, with a ridge penalty.

    log rate = log share + components x coefficients: ridge regression with the likelihood it is judged by. A penalty is
    fitted when it is first asked for, starting from the one before (L-BFGS).

    Parameters
    ----------
    space, counts, library, profile
        See `NearestCells`.
    """

    options = PENALTIES

    def __init__(self, space: np.ndarray, counts: sp.csr_matrix, library: np.ndarray, profile: Profile) -> None:
        self.design, self.counts, self.profile = _with_intercept(space), counts.tocsc(), profile
        self.log_library = np.log(np.maximum(library, 1.0))[:, None]
        self.last, self.fitted = np.zeros((self.design.shape[1], counts.shape[1])), {}

    def log_rate(self, space: np.ndarray, option: float) -> np.ndarray:
        """Log of counts per library count (cells x genes) of cells given by their components."""
        return self.profile.log_mean + _with_intercept(space) @ self.coefficients(option)

    def coefficients(self, penalty: float) -> np.ndarray:
        """Coefficients, (1 + components) x genes; genes do not depend on each other and are fitted in blocks."""
        if penalty not in self.fitted:
            starts = range(0, self.counts.shape[1], BLOCK_GENES)
            self.last = np.hstack([self._fit(slice(start, start + BLOCK_GENES), penalty) for start in starts])
            self.fitted[penalty] = self.last
        return self.fitted[penalty]

    def _fit(self, genes: slice, penalty: float) -> np.ndarray:
        log_floor = self.profile.log_mean[genes] + self.log_library
        given = (self.design, self.counts[:, genes].toarray(), log_floor, self.profile.log_size[genes])
        design, counts, log_floor, log_size = (torch.tensor(part, dtype=torch.float32) for part in given)
        slopes = torch.tensor(self.last[:, genes], dtype=torch.float32, requires_grad=True)
        options = {"max_iter": ITERATIONS, "tolerance_change": TOLERANCE, "line_search_fn": "strong_wolfe"}
        optimiser = torch.optim.LBFGS([slopes], **options)

        def loss():
            optimiser.zero_grad()
            log_mu = log_floor + design @ slopes
            # The terms of the likelihood that depend on the mean. Constants, or a sum in single precision, would hide
            # what a step gains, and the search would stop where it began.
            nll = (counts + log_size.exp()) * F.softplus(log_mu - log_size) - counts * log_mu
            value = nll.sum(dtype=torch.float64) + penalty / 2 * slopes.square().sum(dtype=torch.float64)
            value.backward()
            return value

        optimiser.step(loss)
        return slopes.detach().numpy().astype(np.float64)


def _with_intercept(space: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(space)), space])


PREDICTORS = {"kNN": NearestCells, "ridge on PCA": LogLinear}
