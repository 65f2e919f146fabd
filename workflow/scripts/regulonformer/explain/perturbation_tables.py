"""Perturbations against a null of genes that are expressed alike, and the tables that the workflow keeps of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

DIRECTIONS = ("knock_out", "over_expression")
EVERY_GROUP = "all"


@dataclass(frozen=True)
class PerturbationSettings:
    """Section `perturbation` of the configuration; its meaning is told in the schema."""

    column: str | None = None
    control: str = "none"
    direction: str = "knock_out"
    group: str | None = None
    cells_per_group: int = 10
    max_tfs: int = 300
    null_genes: int = 100
    matched_genes: int = 30
    quantile: float = 0.95
    close_accessibility: bool = False
    silence_regulon: bool = False
    top_targets: int = 100
    seed: int = 0


def choose_cells(group: np.ndarray, eligible: np.ndarray, per_group: int, seed: int) -> np.ndarray:
    """Draw cells of each group, at most so many; returns row numbers in order.

    Parameters
    ----------
    group
        Name per cell; cells with an empty one are left out.
    eligible
        Whether a cell may be drawn.
    per_group
        Cells per group, at most.
    seed
        Seed of the draw.
    """
    rng, chosen = np.random.default_rng(seed), []
    for name in np.unique(group[eligible & (group != "")]):
        rows = np.flatnonzero(eligible & (group == name))
        chosen.append(rng.permutation(rows)[:per_group])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, int)


def choose_null(mean_N: np.ndarray, tfs: np.ndarray, allowed_N: np.ndarray, n: int) -> np.ndarray:
    """Choose genes that are expressed like TFs: nearest in mean expression to TFs spread over their range.

    Parameters
    ----------
    mean_N
        Mean expression of each gene.
    tfs
        Tokens of the TFs to match.
    allowed_N
        Genes that may serve.
    n
        Genes wanted, each at most once.

    Returns
    -------
    numpy.ndarray
        Tokens, in order; all that are allowed if there are no more.
    """
    left = np.flatnonzero(allowed_N)
    wanted = np.quantile(mean_N[tfs], np.linspace(0, 1, n))
    chosen = []
    for value in wanted[: len(left)]:
        at = np.argmin(np.abs(mean_N[left] - value))
        chosen.append(left[at])
        left = np.delete(left, at)
    return np.sort(np.array(chosen, int))


def nearest(dose_P: np.ndarray, dose_Q: np.ndarray, k: int) -> np.ndarray:
    """The k null genes nearest in dose (see `Perturbations.doses`) to each perturbed gene, P x k positions among Q."""
    distance_PQ = np.abs(dose_P[:, None] - dose_Q[None])
    return np.argsort(distance_PQ, axis=1, kind="stable")[:, :k]


def against_null(value_P: np.ndarray, null_PK: np.ndarray, dose_P: np.ndarray, dose_PK: np.ndarray) -> pd.DataFrame:
    """Compare lengths of changes with those of matched null genes: null_mean, z, p (one-sided).

    Square roots of lengths, whose spread is even, are a line in the square root of the dose among the K null genes:
    without it the strongest TF would be compared with weaker genes alone. z is the distance from the line, p that of a
    new draw about it (the prediction interval of a linear regression, Student's t with K - 2 degrees of freedom). Where
    the null does not vary, as in cells without the gene, z is 0 and p is 1.

    Parameters
    ----------
    value_P, dose_P
        Length of the change, and dose, of P perturbed genes.
    null_PK, dose_PK
        The same of the K null genes of each; K is at least 3.
    """
    n_null = null_PK.shape[1]
    length_PK, x_PK = np.sqrt(null_PK), np.sqrt(dose_PK)
    x_P = np.sqrt(dose_P) - x_PK.mean(axis=1)
    x_PK = x_PK - x_PK.mean(axis=1, keepdims=True)
    squares_P, centre_P = (x_PK**2).sum(axis=1), length_PK.mean(axis=1)
    has_slope_P = squares_P > 1e-12
    slope_P = np.divide((x_PK * length_PK).sum(axis=1), squares_P, out=np.zeros(len(x_P)), where=has_slope_P)
    leverage_P = np.divide(x_P**2, squares_P, out=np.zeros(len(x_P)), where=has_slope_P)
    rest_PK = length_PK - centre_P[:, None] - slope_P[:, None] * x_PK
    spread_P = np.sqrt((rest_PK**2).sum(axis=1) / (n_null - 2) * (1 + 1 / n_null + leverage_P))
    known_P = spread_P > 1e-12
    beyond_P = np.sqrt(value_P) - centre_P - slope_P * x_P
    z_P = np.divide(beyond_P, spread_P, out=np.zeros(len(x_P)), where=known_P)
    p_P = np.where(known_P, stats.t.sf(z_P, n_null - 2), 1.0)
    return pd.DataFrame({"null_mean": null_PK.mean(axis=1), "z": z_P, "p": p_P})


def tf_table(tfs, length_PG, null_QG, dose_PG, null_dose_QG, groups, size_G, direction: str, k: int) -> pd.DataFrame:
    """Rank TFs by how far their perturbation moves cells, beyond that of genes which lose or gain as much.

    Parameters
    ----------
    tfs
        Symbols of P perturbed TFs.
    length_PG, null_QG
        Mean length of the change in each group, of TFs and of null genes.
    dose_PG, null_dose_QG
        Mean dose in each group, of TFs and of null genes.
    groups, size_G
        Names of the groups, and their cells.
    direction
        knock_out or over_expression.
    k
        Matched genes.

    Returns
    -------
    pandas.DataFrame
        tf, group, direction, n_cells, embedding_change, null_mean, z, p, fdr (Benjamini-Hochberg over the TFs of a
        block), rank (of z, highest first); one block per group.
    """
    blocks = []
    for g, name in enumerate(groups):
        matched_PK = nearest(dose_PG[:, g], null_dose_QG[:, g], k)
        block = pd.DataFrame({"tf": tfs, "group": name, "direction": direction, "n_cells": size_G[g]})
        block["embedding_change"] = length_PG[:, g]
        null = null_QG[matched_PK, g], dose_PG[:, g], null_dose_QG[matched_PK, g]
        block = pd.concat([block, against_null(length_PG[:, g], *null)], axis=1)
        block["fdr"] = stats.false_discovery_control(block["p"])
        block["rank"] = (-block["z"]).rank(method="min").astype(int)
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True)


def target_table(tfs, genes, change_PN, null_QN, matched_PK, regulons: pd.DataFrame, direction: str, top: int):
    """Genes whose predicted expression answers to a TF most, and all of its direct targets.

    Parameters
    ----------
    tfs, genes
        Symbols of P perturbed TFs and of all N genes.
    change_PN, null_QN
        Change of the log RNA rate under perturbation of TFs and of null genes; NaN is left out of the null, as the
        change of a null gene under its own perturbation should be.
    matched_PK
        Positions of the matched null genes of each TF among Q.
    regulons
        source, target, score, sign.
    direction
        knock_out or over_expression.
    top
        Genes per TF, those with the largest |z|, beside the direct targets.

    Returns
    -------
    pandas.DataFrame
        tf, gene, direction, change (natural log), z (against the change of the same gene under its null), rank (of
        |z|), is_direct_target, sign and score of the regulon's edge (0 where there is none); the TF itself is left out.
    """
    position, edges = pd.Index(genes), regulons.set_index(["source", "target"])
    blocks = []
    for p, tf in enumerate(tfs):
        null_KN = null_QN[matched_PK[p]]
        # A gene that no null perturbation moves at all would have an infinite z.
        spread_N = np.maximum(np.nanstd(null_KN, axis=0, ddof=1), 1e-8)
        block = pd.DataFrame({"tf": tf, "gene": genes, "direction": direction, "change": change_PN[p]})
        block["z"] = (change_PN[p] - np.nanmean(null_KN, axis=0)) / spread_N
        block = block[block["gene"] != tf]
        block["rank"] = (-block["z"].abs()).rank(method="first").astype(int)
        direct = edges.loc[[tf]].droplevel(0) if tf in edges.index.levels[0] else edges.iloc[:0].droplevel(0)
        direct = direct[direct.index.isin(position)]
        block["is_direct_target"] = block["gene"].isin(direct.index)
        for column in ("sign", "score"):
            block[column] = block["gene"].map(direct[column]).fillna(0).astype(regulons[column].dtype)
        blocks.append(block[(block["rank"] <= top) | block["is_direct_target"]].sort_values("rank"))
    return pd.concat(blocks, ignore_index=True)
