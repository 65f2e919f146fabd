"""Responses to perturbations that were not seen, from those that were: a mixed model over conditions.

What is known beforehand of a change (the in-silico one, say) is its mean. The rest is a sum of what all conditions of a
screen, of one kind of cells and of one perturbed gene share, each with a variance of its own. At the limits of these
variances stand the mean of the training conditions and the sum of single perturbations (the additive model); they are
estimated, so that the data say how far to trust each. Best linear unbiased prediction: Henderson 1975
(doi:10.2307/2529430); linear models as the ones to beat: Ahlmann-Eltze et al. 2025 (doi:10.1038/s41592-025-02772-6).
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

# Bounds of the log of each variance, in units of the variance between cells.
LOG_BOUNDS = (-14.0, 4.0)
START = -5.0
# A weak prior keeps variances that the data cannot tell apart from drifting to their bounds.
PRIOR_WEIGHT = 0.01
# Genes of a stratum, at least.
FEWEST_GENES = 5


def condition_kernels(genes: list[frozenset], cells: np.ndarray, screen: np.ndarray) -> dict[str, np.ndarray]:
    """What pairs of U conditions share, U x U each.

    Parameters
    ----------
    genes
        Perturbed genes of each condition.
    cells
        Kind of cells (line, donor, state).
    screen
        Screen, or way to perturb.
    """
    shared = np.array([[len(a & b) for b in genes] for a in genes], float)
    same_cells = cells[:, None] == cells[None]
    same_screen = screen[:, None] == screen[None]
    kernels = {
        "screen": same_screen.astype(float),
        "cells": (same_cells & same_screen).astype(float),
        "gene": shared,
        "gene_in_screen": shared * same_screen,
        "gene_in_cells": shared * (same_cells & same_screen),
    }
    # Kernels that are equal cannot be told apart; the first one speaks for all.
    unique = {}
    for name, kernel in kernels.items():
        if not any(np.array_equal(kernel, other) for other in unique.values()):
            unique[name] = kernel
    return unique


def halving_strata(energy_N: np.ndarray) -> list[np.ndarray]:
    """Divide genes by how much they change: the lower half, the next quarter, and so on up to the few that lead.

    Few genes answer to a perturbation. With one set of variances for all, the many others would decide how little to
    believe of them.
    """
    order, strata = np.argsort(energy_N, kind="stable"), []
    while len(order) >= 2 * FEWEST_GENES:
        half = len(order) // 2
        strata.append(order[:half])
        order = order[half:]
    return [*strata, order]


@dataclass
class ResponseModel:
    """Mixed model of changes, with variances of their own for genes that change little and much.

    Attributes
    ----------
    kernels
        What pairs of conditions share, U x U each; those to predict included.
    spread_N
        Standard deviation of single cells, per gene: the unit in which all genes are alike.
    cells_U
        Effective number of cells behind each condition; its error variance is 1 / cells_U in these units.
    prior_FUN
        F changes known beforehand for each condition, or None. Their weights are least squares on the training
        conditions.
    """

    kernels: dict[str, np.ndarray]
    spread_N: np.ndarray
    cells_U: np.ndarray
    prior_FUN: np.ndarray | None = None

    def predict(self, change_UN: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Change of the test conditions, given those of the training conditions (rows of `change_UN`).

        Returns
        -------
        numpy.ndarray
            Test conditions x genes.
        """
        unit_UN = np.divide(change_UN, self.spread_N, out=np.zeros_like(change_UN), where=self.spread_N > 0)
        mean_UN = self._mean(unit_UN, train)
        rest_TN, found = unit_UN[train] - mean_UN[train], mean_UN[test]
        for genes in halving_strata(self.cells_U[train] @ rest_TN**2):
            weights = self._variances(rest_TN[:, genes], train)
            solved = cho_solve(cho_factor(self._observed(weights, train)), rest_TN[:, genes])
            found[:, genes] += self._covariance(weights)[np.ix_(test, train)] @ solved
        return found * self.spread_N

    def _mean(self, unit_UN, train) -> np.ndarray:
        """The known changes with the weights that suit the training conditions best."""
        if self.prior_FUN is None:
            return np.zeros_like(unit_UN)
        known_FUN = np.divide(self.prior_FUN, self.spread_N, out=np.zeros_like(self.prior_FUN), where=self.spread_N > 0)
        design = known_FUN[:, train].reshape(len(known_FUN), -1).T
        weight_F = np.linalg.lstsq(design, unit_UN[train].ravel(), rcond=None)[0]
        return np.tensordot(weight_F, known_FUN, axes=1)

    def _variances(self, rest_TN, train) -> np.ndarray:
        """Maximum likelihood: logs of the error's factor, of what a condition has of its own, and of each kernel."""
        products, n_genes = rest_TN @ rest_TN.T, rest_TN.shape[1]
        start = np.full(2 + len(self.kernels), START)
        start[0] = 0.0

        def cost(weights):
            factor = cho_factor(self._observed(weights, train), lower=True)
            fit = 0.5 * np.trace(cho_solve(factor, products))
            return n_genes * np.log(np.diag(factor[0])).sum() + fit + PRIOR_WEIGHT * ((weights - start) ** 2).sum()

        return minimize(cost, start, method="L-BFGS-B", bounds=[LOG_BOUNDS] * len(start)).x

    def _covariance(self, weights) -> np.ndarray:
        """Covariance of what conditions share."""
        parts = zip(weights[2:], self.kernels.values(), strict=True)
        return sum(np.exp(weight) * kernel for weight, kernel in parts)

    def _observed(self, weights, train) -> np.ndarray:
        """Covariance of measured changes: with what each has of its own, and the error."""
        own = np.exp(weights[0]) / self.cells_U[train] + np.exp(weights[1])
        return self._covariance(weights)[np.ix_(train, train)] + np.diag(own)
