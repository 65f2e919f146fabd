"""Attributions as tables: means per class, class-specific drivers, how stable they are, and whether they add up."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, spearmanr, t

from regulonformer.explain.permutation import contrast_classes
from regulonformer.model.batch import MODALITIES

TOP = 50  # genes whose overlap is counted
ALPHA = 0.05
MIN_UNITS = 3  # folds or seeds, for an interval over them


def attribution_table(values_XMN: np.ndarray, class_X: np.ndarray, symbols: np.ndarray) -> pd.DataFrame:
    """Mean attributions of the cells that one model explained.

    Parameters
    ----------
    values_XMN
        Attributions, cells x modalities x genes.
    class_X
        Class name of each cell.
    symbols
        Gene of each column.

    Returns
    -------
    pandas.DataFrame
        class, gene, modality, attribution, std (over cells), n_cells, specificity: the mean attribution of the class
        minus the largest of the other classes (0 where there is no other). Genes that no class has any attribution at
        are left out. A gene that is no token of a cell counts as zero there.
    """
    classes, index_X = np.unique(class_X, return_inverse=True)
    mean_CMN = np.stack([values_XMN[index_X == c].mean(0, dtype=float) for c in range(len(classes))])
    std_CMN = np.stack([values_XMN[index_X == c].std(0, dtype=float) for c in range(len(classes))])
    specificity_CMN, n_cells = mean_CMN - largest_other(mean_CMN), np.bincount(index_X)
    parts = []
    for m, modality in enumerate(MODALITIES):
        genes = np.flatnonzero(np.abs(mean_CMN[:, m]).sum(0) > 0)
        for c, name in enumerate(classes):
            part = pd.DataFrame({"class": name, "gene": symbols[genes], "modality": modality})
            part["attribution"], part["std"] = mean_CMN[c, m, genes], std_CMN[c, m, genes]
            parts.append(part.assign(n_cells=n_cells[c], specificity=specificity_CMN[c, m, genes]))
    return pd.concat(parts, ignore_index=True)


def largest_other(mean_CF: np.ndarray) -> np.ndarray:
    """For each class (first axis) the largest value among the others; 0 if it is alone."""
    if len(mean_CF) < 2:
        return np.zeros_like(mean_CF)
    ranked = np.sort(mean_CF, axis=0)
    is_first = mean_CF.argmax(0)[None] == np.arange(len(mean_CF)).reshape(-1, *[1] * (mean_CF.ndim - 1))
    return np.where(is_first, ranked[-2], ranked[-1])


def driver_table(
    values_XMN: np.ndarray,
    class_X: np.ndarray,
    fold_X: np.ndarray,
    vocabulary: pd.DataFrame,
    markers: pd.DataFrame | None,
    *,
    n_permutations: int,
    n_rows: int,
    seed: int,
) -> pd.DataFrame:
    """Class-specific drivers: genes whose attribution is larger in the cells of a class than in other cells.

    Parameters
    ----------
    values_XMN
        Attributions, cells x modalities x genes; those of a cell are for its own class.
    class_X, fold_X
        Class name and fold of each cell; labels are permuted within folds.
    vocabulary
        symbol and is_tf of each gene.
    markers
        class, gene: known markers, or None.
    n_permutations, seed
        Permutations of the null and their seed.
    n_rows
        Rows kept per class and modality, the best ones; TFs and markers are kept in any case.

    Returns
    -------
    pandas.DataFrame
        class, gene, modality, is_tf, attribution (mean over the cells of the class), specificity, z, p, fdr
        (Benjamini-Hochberg over the genes of both modalities of a class, all of them), rank (those within the FDR of
        5 % first, then by attribution), is_marker (missing without markers), n_cells.
    """
    classes, index_X = np.unique(class_X, return_inverse=True)
    symbols, is_tf = vocabulary["symbol"].to_numpy(), vocabulary["is_tf"].to_numpy()
    flat_XF = values_XMN.reshape(len(values_XMN), -1)
    used = np.flatnonzero(np.abs(flat_XF).max(0) > 0)
    modality, gene = used // len(symbols), used % len(symbols)
    contrast = contrast_classes(flat_XF[:, used], index_X, fold_X, len(classes), n_permutations, seed)
    specificity_CF, n_cells = contrast.mean_CF - largest_other(contrast.mean_CF), np.bincount(index_X)
    parts = []
    for c, name in enumerate(classes):
        part = pd.DataFrame({"class": name, "gene": symbols[gene], "modality": np.array(MODALITIES)[modality]})
        part["is_tf"], part["attribution"] = is_tf[gene], contrast.mean_CF[c]
        part["specificity"], part["z"], part["p"] = specificity_CF[c], contrast.z_CF[c], contrast.p_CF[c]
        part["fdr"] = false_discovery_control(part["p"], method="bh")
        order = part.assign(beyond=part["fdr"] > ALPHA).sort_values(
            ["beyond", "attribution", "gene"], ascending=[True, False, True]
        )
        part = part.loc[order.index]
        part["rank"] = part.groupby("modality").cumcount() + 1
        known = None if markers is None else part["gene"].isin(markers.loc[markers["class"] == name, "gene"])
        part["is_marker"], part["n_cells"] = known, n_cells[c]
        kept = (part["rank"] <= n_rows) | part["is_tf"] | (False if known is None else known)
        parts.append(part[kept])
    return pd.concat(parts).sort_values(["class", "modality", "rank"], ignore_index=True)


def stability_table(attribution: pd.DataFrame) -> pd.DataFrame:
    """How well the attributions of two models agree, per class and modality.

    Parameters
    ----------
    attribution
        class, gene, modality, attribution, fold, seed.

    Returns
    -------
    pandas.DataFrame
        class, modality, between (`seeds`: same fold and cells, other seed; `folds`: same seed, other fold and cells),
        pairs, spearman (rank correlation over the genes that either has, mean over pairs), ci_low, ci_high (its 95 %
        interval, see `_jackknife`), spearman_lowest, top_overlap (share of the 50 strongest genes that both have),
        genes.
    """
    rows = []
    for (name, modality), part in attribution.groupby(["class", "modality"], sort=True):
        wide = part.pivot(index="gene", columns=["fold", "seed"], values="attribution").fillna(0)
        pairs = {"seeds": [], "folds": []}
        for one, other in combinations(wide, 2):
            if (one[0] == other[0]) != (one[1] == other[1]):
                found = (one, other, *_agreement(wide[one], wide[other]))
                pairs["seeds" if one[0] == other[0] else "folds"].append(found)
        for between, found in pairs.items():
            if found:
                first, second, *scores = zip(*found, strict=True)
                rho, overlap, n_genes = map(np.array, scores)
                bounds = _jackknife(rho, np.array([first, second]))
                row = (len(found), rho.mean(), *bounds, rho.min(), overlap.mean(), int(n_genes.max()))
                rows.append((name, modality, between, *row))
    columns = ["class", "modality", "between", "pairs", "spearman", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=[*columns, "spearman_lowest", "top_overlap", "genes"])


def _jackknife(rho_P: np.ndarray, models_2PK: np.ndarray) -> tuple[float, float]:
    """Interval of a mean over pairs of models; NaN without three folds or seeds, or where one of them is in every pair.

    Pairs share models, so that they are no independent draws: whole folds are left out one at a time, or seeds where
    there are fewer than three folds (the jackknife of Arvesen 1969, Annals of Mathematical Statistics 40:2076, for
    means over pairs; Student's t).

    Parameters
    ----------
    rho_P
        Of each of P pairs.
    models_2PK
        Fold and seed of both models of each pair.
    """
    for of_pair_2P in (models_2PK[..., 0], models_2PK[..., 1]):
        units = np.unique(of_pair_2P)
        if len(units) >= MIN_UNITS:
            left_UP = [(of_pair_2P != unit).all(0) for unit in units]
            if not all(left_P.any() for left_P in left_UP):
                break
            means = np.array([rho_P[left_P].mean() for left_P in left_UP])
            error = np.sqrt((len(units) - 1) * means.var())
            half = t.ppf(0.975, len(units) - 1) * error
            return max(rho_P.mean() - half, -1.0), min(rho_P.mean() + half, 1.0)
    return np.nan, np.nan


def _agreement(one: pd.Series, other: pd.Series) -> tuple[float, float, int]:
    """Rank correlation, overlap of the strongest genes, and number of genes."""
    seen = (one != 0) | (other != 0)
    top = min(TOP, int(seen.sum()))
    shared = set(one[seen].nlargest(top).index) & set(other[seen].nlargest(top).index)
    return spearmanr(one[seen], other[seen]).statistic, len(shared) / max(top, 1), int(seen.sum())


def completeness(checks: dict[int, np.ndarray]) -> dict:
    """Summarise how far attributions are from adding up to the change of the logit.

    Parameters
    ----------
    checks
        Fold to (cells, 3): change of the logit, error, and its part that comes from the list of tokens; a cell counts
        once for each model that explained it.

    Returns
    -------
    dict
        Of all folds (`overall`) and each (`folds`): cells, relative_error (sum of |error| over sum of |change|),
        median_relative_error (over cells) and listing_error (as relative_error, of the list of tokens alone).
    """

    def summary(values: np.ndarray) -> dict:
        if not len(values):
            return {"cells": 0, "relative_error": None, "median_relative_error": None, "listing_error": None}
        change, error, listing = np.abs(values).T
        total = max(change.sum(), 1e-6)
        return {
            "cells": len(change),
            "relative_error": float(error.sum() / total),
            "median_relative_error": float(np.median(error / np.maximum(change, 1e-6))),
            "listing_error": float(listing.sum() / total),
        }

    folds = {str(fold): summary(values) for fold, values in checks.items()}
    return {"overall": summary(np.concatenate(list(checks.values()))), "folds": folds}
