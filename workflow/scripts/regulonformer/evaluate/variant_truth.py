"""What the truth of a simulation says of variants: which motifs in which elements drive which gene."""

import logging

import numpy as np
import pandas as pd

# -log10 p of matched motifs differ by no more.
STRENGTH_CALIPER = 0.3
# A target's match is drawn from so many genes that are nearest in expression.
NEAREST = 5


def motif_instances(sites: pd.DataFrame, names: np.ndarray) -> pd.DataFrame:
    """Instances of motifs in windows: all sites of one TF (or unused motif) in one window.

    Parameters
    ----------
    sites
        As `find_sites` gives them.
    names
        TF, or name of the unused motif, of each motif number.

    Returns
    -------
    pandas.DataFrame
        name, window, strength (of the best site).
    """
    named = sites.assign(name=np.asarray(names, dtype=object)[sites["motif"].to_numpy(int)])
    best = named.groupby(["name", "window"], as_index=False)["minus_log10_p"].max()
    return best.rename(columns={"minus_log10_p": "strength"})


def true_instances(planted: pd.DataFrame, grn: pd.DataFrame, windows: pd.DataFrame, pairs: pd.DataFrame):
    """Windows that hold a site of a TF, planted there, of a gene that this TF drives; name, window, gene.

    Parameters
    ----------
    planted
        chrom, start, end, source, decoy.
    grn
        source, target.
    windows, pairs
        As `gene_windows` gives them.
    """
    real = planted[~planted["decoy"]]
    both = real.merge(windows.reset_index(names="window"), on="chrom", suffixes=("", "_window"))
    both = both[(both["start"] >= both["start_window"]) & (both["end"] <= both["end_window"])]
    both = both[["source", "window"]].drop_duplicates().merge(pairs[["window", "symbol"]], on="window")
    both = both.merge(
        grn[["source", "target"]].drop_duplicates(), left_on=["source", "symbol"], right_on=["source", "target"]
    )
    columns = {"source": "name", "symbol": "gene"}
    return both.rename(columns=columns)[["name", "window", "gene"]].drop_duplicates(
        ["name", "window"], ignore_index=True
    )


def of_known_genes(instances: pd.DataFrame, symbols: np.ndarray) -> pd.DataFrame:
    """Instances of genes (column gene) that the model has; nothing can be read of the others, and they are counted."""
    known = instances["gene"].isin(symbols)
    if n_others := int((~known).sum()):
        logging.info("%d of %d instances are of genes that the model lacks; left out", n_others, len(known))
    return instances[known].reset_index(drop=True)


def match_strength(true: pd.DataFrame, others: pd.DataFrame, n: int, rng: np.random.Generator):
    """Pairs of a true instance and another one of about the same strength, each used once; n pairs at most.

    Returns
    -------
    tuple of pandas.DataFrame
        True instances and their matches, row by row.
    """
    order, left, chosen = rng.permutation(len(true)), np.ones(len(others), bool), []
    strength = others["strength"].to_numpy()
    for row in order:
        if len(chosen) == n:
            break
        near = np.flatnonzero(left & (np.abs(strength - true["strength"].iloc[row]) <= STRENGTH_CALIPER))
        if len(near):
            match = int(rng.choice(near))
            left[match] = False
            chosen.append((row, match))
    rows, matches = np.array(chosen, dtype=int).reshape(-1, 2).T
    return true.iloc[rows].reset_index(drop=True), others.iloc[matches].reset_index(drop=True)


def auroc(true_X: np.ndarray, other_X: np.ndarray) -> float:
    """Share of pairs of a true and another value in which the true one is larger; ties count half."""
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([1, 0], [len(true_X), len(other_X)])
    return float(roc_auc_score(labels, np.concatenate([true_X, other_X])))


def top_hits(change_N: np.ndarray, targets: np.ndarray, own: int, top: int) -> int:
    """Targets among the genes that change most, the ablated gene left out."""
    ranked = np.argsort(-np.nan_to_num(change_N, nan=-1.0), kind="stable")
    return int(np.isin(ranked[ranked != own][:top], targets).sum())


def matched_hits(change_N, targets, own: int, expression_N, top: int, rng, draws: int = 20) -> float:
    """As `top_hits`, of genes that are no targets but expressed like them; mean of several draws."""
    ranked = np.argsort(-np.nan_to_num(change_N, nan=-1.0), kind="stable")
    is_top = np.isin(np.arange(len(change_N)), ranked[ranked != own][:top])
    others = np.setdiff1d(np.arange(len(change_N)), np.append(targets, own))
    distance_TO = np.abs(expression_N[targets][:, None] - expression_N[others][None])
    near_TK = others[np.argsort(distance_TO, axis=1, kind="stable")[:, :NEAREST]]
    return float(np.mean([is_top[[rng.choice(row) for row in near_TK]].sum() for _ in range(draws)]))
