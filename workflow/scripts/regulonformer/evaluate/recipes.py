"""Recipes side by side: what each learns, knows without labels, becomes with them, finds of the network, and costs."""

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from regulonformer.evaluate.ablation import attention_influence, mean_interval, pooling_influence
from regulonformer.evaluate.embedding import LISI_NEIGHBOURS, cluster_scores, lisi_scores, nearest
from regulonformer.evaluate.masked_cells import masked_batches
from regulonformer.objectives import make_objective

# Metrics of each aspect, and whether more is better. Every aspect counts the same in the mean rank.
ASPECTS = {
    "masked loss": {"loss_rna": False, "loss_atac": False},
    "zero-shot": {"clustering": True, "knn_macro_f1": True},
    "adapted": {"adapted_macro_f1": True},
    "network": {"auprc_attention": True, "auprc_pooling": True},
    "cost": {"seconds": False, "memory_gb": False, "n_parameters": False},
}
NEIGHBOURS = 15
ATTENTION_CELLS = 500


@torch.no_grad()
def masked_losses(model, corpus, cells: np.ndarray, batch_cells: int, place: tuple) -> dict[str, float]:
    """Loss of hidden counts per modality, hidden in one and the same way for all recipes: that of `masked` as it is.

    Parameters
    ----------
    model
        Encoder in evaluation mode.
    corpus, cells, batch_cells, place
        See `masked_batches`.

    Returns
    -------
    dict of str to float
        loss_rna, loss_atac (nats per entry); empty for a model that predicts no counts.
    """
    if model.config.predicts != "counts":
        return {}
    objective = make_objective({"name": "masked"}, model.n_genes)
    nll_M, weight_M = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for _, prepared in masked_batches(objective, corpus, cells, batch_cells, place):
        terms = objective.loss(model, prepared)
        nll_M, weight_M = nll_M + terms.nll_M.double(), weight_M + terms.weight_M.double()
    losses = {"loss_rna": nll_M[0] / weight_M[0], "loss_atac": nll_M[1] / weight_M[1]}
    return {name: float(value) for name, value in losses.items() if value.isfinite()}


def zero_shot(space: np.ndarray, labels: np.ndarray, libraries: np.ndarray, fold: np.ndarray, seed: int) -> dict:
    """What a space knows of cell types without having seen any.

    Parameters
    ----------
    space
        Cells x dimensions.
    labels, libraries, fold
        Of each cell: its type, its library, and the fold that holds it out.
    seed
        Seed of k-means.

    Returns
    -------
    dict of str to float
        clustering: mean of NMI and ARI; ilisi, where there are several libraries; knn_macro_f1 of cells held out,
        each by its 15 nearest cells of the other folds.
    """
    found = cluster_scores(space, labels, seed)
    scores = found | {"clustering": (found["nmi"] + found["ari"]) / 2}
    if len(np.unique(libraries)) > 1:
        scores["ilisi"] = lisi_scores(*nearest(space, LISI_NEIGHBOURS), labels, libraries)["ilisi"]
    predicted = np.empty_like(labels)
    for held in np.unique(fold):
        train = fold != held
        neighbours = KNeighborsClassifier(min(NEIGHBOURS, int(train.sum()))).fit(space[train], labels[train])
        predicted[~train] = neighbours.predict(space[~train])
    return scores | {"knn_macro_f1": float(f1_score(labels, predicted, average="macro"))}


def network_scores(model, regulons: list[str], corpus, cells: np.ndarray, batch_cells: int, known) -> dict[str, float]:
    """How well attention and pooling weights rank known edges.

    Parameters
    ----------
    model
        Encoder.
    regulons
        TF of each slot.
    corpus, cells, batch_cells
        Cells whose attention is averaged.
    known
        `TrueEdges`.

    Returns
    -------
    dict of str to float
        auprc_attention, auprc_pooling; empty without regulon layers or known edges.
    """
    if "regulon" not in model.config.layers or not known.truth.any():
        return {}
    influence = attention_influence(model, corpus, cells[:ATTENTION_CELLS], batch_cells)
    return {
        "auprc_attention": known.auprc(influence, regulons),
        "auprc_pooling": known.auprc(pooling_influence(model), regulons),
    }


def mean_ranks(means: pd.DataFrame) -> pd.Series:
    """Mean over aspects of the mean rank within each; 1 is best, what a recipe does not have does not count.

    Parameters
    ----------
    means
        Recipes x metrics; NaN where a recipe does not have the metric.
    """
    ranks = []
    for metrics in ASPECTS.values():
        columns = {name: means[name].rank(ascending=not more) for name, more in metrics.items() if name in means}
        if columns:
            ranks.append(pd.DataFrame(columns).mean(axis=1))
    return pd.concat(ranks, axis=1).mean(axis=1)


def tabulate(single: pd.DataFrame, recipes: list[str], confidence: float) -> pd.DataFrame:
    """Add means over seeds, differences of each recipe to every other method with the same seed, and mean ranks.

    Parameters
    ----------
    single
        method, seed, metric, value.
    recipes
        Methods that are ranked, and whose differences to all methods are made.
    confidence
        Level of the intervals (Student's t over seeds).

    Returns
    -------
    pandas.DataFrame
        method, seed, metric, value, ci_low, ci_high, versus. Differences (the method less `versus`) are the metrics
        `gap_...`; `mean_rank` has seed `all`.
    """
    columns = ["method", "seed", "metric", "value", "ci_low", "ci_high", "versus"]
    wide = single.pivot(index="seed", columns=["method", "metric"], values="value")
    rows = [(m, "all", metric, *mean_interval(wide[m, metric], confidence), "") for m, metric in wide]
    for method, metric in wide:
        others = [other for other, same in wide if same == metric and other != method]
        for other in others if method in recipes else ():
            gap = mean_interval(wide[method, metric] - wide[other, metric], confidence)
            rows.append((method, "all", f"gap_{metric}", *gap, other))
    means = wide.mean().unstack("metric").reindex(recipes)
    rows += [(m, "all", "mean_rank", rank, np.nan, np.nan, "") for m, rank in mean_ranks(means).items()]
    return pd.concat([single, pd.DataFrame(rows, columns=columns)])[columns]
