"""Predict one modality from the other: the few directions of the target that the source can tell, by several ways."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

RANK = 16  # directions of the target
PENALTY = 300.0  # of the ridge whose factors are the coordinates of cells
PENALTIES, KERNEL_PENALTIES = (30.0, 300.0, 3000.0), (3.0, 30.0)  # of predictions; their weights choose between them
NEIGHBOURS = 100
LANDMARKS = 300  # cells that stand for all others in the kernel
GAMMA = 0.15  # of the Gaussian kernel, the first coordinate having unit deviation
LINEAR_WEIGHT = 0.3  # of the coordinates themselves beside the kernel, which says nothing far from all landmarks
EMBEDDING_WEIGHT = 0.3  # of the embedding beside the components, which have unit deviation at most
MIN_STD = 1e-6


@dataclass(frozen=True)
class Source:
    """What is known of cells: principal components, total counts and the cell embedding.

    Attributes
    ----------
    components
        PCA or LSI of the source, cells x K, the first of unit deviation.
    log_depth
        Log of total counts.
    embedding
        Cells x width, made from the source alone; None to do without.
    """

    components: np.ndarray
    log_depth: np.ndarray
    embedding: np.ndarray | None = None

    def __getitem__(self, rows) -> "Source":
        """Some of the cells."""
        return Source(
            self.components[rows], self.log_depth[rows], None if self.embedding is None else self.embedding[rows]
        )


class Translation(NamedTuple):
    """Predicted target, cells x features, and the weight of each prediction in it by name."""

    predicted: np.ndarray
    weights: dict[str, float]


def translate(source: Source, target: np.ndarray, validation: np.ndarray, query: Source, seed: int) -> Translation:
    """Fit to training cells and predict the target of others.

    The target is its mean plus R factors of a cell times R vectors of the features: the directions of a reduced-rank
    ridge regression (Izenman 1975, J. Multivariate Anal. 5:248), which a linear model predicts best. The factors are
    predicted from two sets of inputs, without and with the cell embedding, by ridge regression, by the training cells
    that are nearest in the ridge's factors, and by a Gaussian kernel on these (Nystroem; Williams and Seeger 2001).
    Validation cells give each prediction a weight that is not negative (stacked regression, Breiman 1996, Machine
    Learning 24:49); then all are fitted again, to all training cells.

    Parameters
    ----------
    source, target
        Training cells; the target is cells x features.
    validation
        True for the training cells that choose the weights.
    query
        Cells to predict.
    seed
        Draws the landmarks of the kernel.
    """
    (inputs, queries), kept = _inputs(source, query), ~validation
    seen, chosen = [x[kept] for x in inputs], [x[validation] for x in inputs]
    basis = Basis(seen[-1], target[kept])
    found = predict_factors(seen, basis.factors(target[kept]), chosen, seed)
    weights, _ = nnls(
        np.column_stack([part.ravel() for part in found.values()]), basis.factors(target[validation]).ravel()
    )
    basis = Basis(inputs[-1], target)
    found = predict_factors(inputs, basis.factors(target), queries, seed)
    factors = sum(weight * part for weight, part in zip(weights, found.values(), strict=True))
    return Translation(basis.profile(factors), dict(zip(found, weights.tolist(), strict=True)))


class Basis:
    """Directions of the target that a ridge regression predicts best, orthonormal.

    Parameters
    ----------
    inputs
        Cells x inputs, of mean zero.
    target
        Cells x features.
    """

    def __init__(self, inputs: np.ndarray, target: np.ndarray) -> None:
        self.mean = target.mean(0)
        inputs = inputs - inputs.mean(0)
        spread = inputs.T @ inputs
        slopes = np.linalg.solve(spread + PENALTY * np.eye(len(spread)), inputs.T @ (target - self.mean))
        # Directions of the fitted values, from a small matrix: inputs @ slopes has the right vectors of root @ slopes.
        values, vectors = np.linalg.eigh(spread)
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        self.vectors = np.linalg.svd(root @ slopes, full_matrices=False)[2][:RANK].T

    def factors(self, target: np.ndarray) -> np.ndarray:
        """Cells x R."""
        return (target - self.mean) @ self.vectors

    def profile(self, factors: np.ndarray) -> np.ndarray:
        """Cells x features."""
        return self.mean + factors @ self.vectors.T


def predict_factors(inputs, factors: np.ndarray, queries, seed: int) -> dict[str, np.ndarray]:
    """Factors of cells, by every method from every set of inputs.

    Parameters
    ----------
    inputs, queries
        Sets of inputs of the training cells, and the same sets of the cells to predict.
    factors
        Cells x R, of the training cells.
    seed
        Draws the landmarks.

    Returns
    -------
    dict of str to numpy.ndarray
        Cells x R.
    """
    found = {}
    for name, x, q in zip(("components", "components and embedding"), inputs, queries, strict=False):
        for penalty in PENALTIES:
            found[f"ridge {penalty:g}, {name}"] = Ridge(penalty).fit(x, factors).predict(q)
        # Coordinates keep the root of their relative spread: directions that the source can hardly tell count little.
        ridge = Ridge(PENALTY).fit(x, factors)
        spread = np.maximum(ridge.predict(x).std(0), MIN_STD)
        x, q = (ridge.predict(part) / np.sqrt(spread * spread.max()) for part in (x, q))
        nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x))).fit(x).kneighbors_graph(q)
        found[f"neighbours, {name}"] = nearest @ factors / nearest.sum(1)[:1].item()
        kernel = Nystroem(gamma=GAMMA, n_components=min(LANDMARKS, len(x)), random_state=seed).fit(x)
        x, q = (np.hstack([kernel.transform(part), LINEAR_WEIGHT * part]) for part in (x, q))
        for penalty in KERNEL_PENALTIES:
            found[f"kernel {penalty:g}, {name}"] = Ridge(penalty).fit(x, factors).predict(q)
    return found


def _inputs(source: Source, query: Source) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sets of inputs of both, in units of the training cells: without and, if there is one, with the embedding."""
    parts = [(source.components, query.components, None), (source.log_depth[:, None], query.log_depth[:, None], 1.0)]
    if source.embedding is not None:
        parts.append((source.embedding, query.embedding, EMBEDDING_WEIGHT))
    scaled = []
    for train, other, weight in parts:
        factor = 1.0 if weight is None else weight / np.maximum(train.std(0), MIN_STD)
        scaled.append([(train - train.mean(0)) * factor, (other - train.mean(0)) * factor])
    sizes = range(2, len(parts) + 1)
    return tuple([np.hstack([part[side] for part in scaled[:n]]) for n in sizes] for side in range(2))
