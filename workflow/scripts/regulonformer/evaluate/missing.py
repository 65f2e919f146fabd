"""What a model of missing modalities is worth, on libraries that it never saw: students, annotation, clustering."""

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import length_sorted
from regulonformer.evaluate.bootstrap import bootstrap_losses

BATCH_CELLS = 256
PENALTIES = (1.0, 10.0, 100.0, 1000.0)  # tried on validation cells
HEAD = {"C": 0.1, "max_iter": 300}  # one for all embeddings: these are compared, and not heads
PARTITION_METRICS = {"ami": adjusted_mutual_info_score, "ari": adjusted_rand_score}
RESTARTS = 5  # of k-means
PARTITION_DRAWS = 100  # at most: each takes as long as the score itself
COLUMNS = ["method", "seed", "metric", "value", "ci_low", "ci_high"]


@torch.no_grad()
def view_embeddings(model, corpus, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Embeddings of paired cells by each modality alone, and of what the model makes of them.

    Parameters
    ----------
    model
        Model with fusion.
    corpus
        Cells.
    rows
        Row numbers of cells with both modalities.

    Returns
    -------
    dict of str to numpy.ndarray
        Cells x width, in the order of `rows`: `rna` and `atac`, the encoder's embedding of one modality alone;
        `atac of rna` and `rna of atac`, what the students make of the other one; `fused`, the embedding of the cell;
        `fused rna`, `fused atac`, that of the cell as if it had this modality alone.
    """
    parts, order = [], np.argsort(rows, kind="stable")
    lengths = corpus.cells["n_active"].to_numpy()[rows]
    for numbers, batch in stream(corpus, length_sorted(rows, lengths, BATCH_CELLS)):
        views = [batch.only(m) for m in (0, 1)]
        rna, atac = (model.encode(view, read_BT=view.genes_BT[:, :0]).cell_BD for view in views)
        imagined = [model.fusion.imagine(m, other) for m, other in enumerate((atac, rna))]
        found = {"rna": rna, "atac": atac, "rna of atac": imagined[0], "atac of rna": imagined[1]}
        found["fused"] = model.fusion.join(rna, atac)
        found["fused rna"], found["fused atac"] = (
            model.fusion.join(rna, imagined[1]),
            model.fusion.join(imagined[0], atac),
        )
        parts.append((numbers, {name: value.numpy() for name, value in found.items()}))
    place = order[np.searchsorted(rows[order], np.concatenate([numbers for numbers, _ in parts]))]
    joined = {name: np.concatenate([found[name] for _, found in parts]) for name in parts[0][1]}
    return {name: value[np.argsort(place)] for name, value in joined.items()}


def class_means(target: np.ndarray, labels: np.ndarray, query: np.ndarray, depth=None, query_depth=None) -> np.ndarray:
    """Predict a target by the mean of its class, or of all cells for a class that was not seen.

    Parameters
    ----------
    target, labels
        Training cells: target (cells x D) and class.
    query
        Classes of the cells to predict.
    depth, query_depth
        Log of total counts of the source; given, the target is that mean plus a straight line in depth.
    """
    classes, index = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), target.shape[1]))
    np.add.at(sums, index, target)
    means = sums / np.bincount(index)[:, None]
    at = pd.Index(classes).get_indexer(query)
    predicted = np.where((at >= 0)[:, None], means[at], target.mean(0))
    if depth is None:
        return predicted
    centre = np.bincount(index, depth) / np.bincount(index)
    slope = Ridge(1e-6).fit((depth - centre[index])[:, None], target - means[index])
    return predicted + slope.predict((query_depth - np.where(at >= 0, centre[at], depth.mean()))[:, None])


def ridge(x: np.ndarray, target: np.ndarray, validation: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Predict a target by ridge regression, whose penalty validation cells (bool) choose."""

    def error(penalty):
        fitted = Ridge(penalty).fit(x[~validation], target[~validation])
        return ((fitted.predict(x[validation]) - target[validation]) ** 2).mean()

    return Ridge(min(PENALTIES, key=error)).fit(x, target).predict(query)


def explained(
    predicted: dict, target: dict, strata: np.ndarray, ours: str, metric: str, *, bootstrap, confidence, seed
) -> pd.DataFrame:
    """Share of the spread of a target that each method explains (R2, all dimensions together).

    Parameters
    ----------
    predicted
        (method, seed) to predictions, cells x D.
    target
        Seed to the target, cells x D; each seed has an encoder of its own.
    strata
        Library of each cell.
    ours
        Method that the others are compared with.
    metric
        Name of the score in the table.
    bootstrap, confidence, seed
        Resamples of cells and seeds, level of the intervals, seed of the resampling.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`: each seed, and `all`, the mean over seeds; `gap_<metric>` is the score of a method less ours.
    """
    seeds = list(target)
    drawn, values = {}, {}
    for s in seeds:
        spread = ((target[s] - target[s].mean(0)) ** 2).sum(1)
        errors = {name: ((p - target[s]) ** 2).sum(1) for (name, number), p in predicted.items() if number == s}
        losses = bootstrap_losses(errors, spread, strata, bootstrap, seed)
        for name, error in errors.items():
            drawn[name, s], values[name, s] = 1 - losses[name], 1 - error.sum() / spread.sum()
    return seed_table(values, drawn, seeds, ours, metric, confidence, seed)


def seed_table(values: dict, drawn: dict, seeds: list, ours: str, metric: str, confidence: float, seed: int):
    """Rows of `explained` from scores and resampled scores by (method, seed); each resample draws its seeds too."""
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    n = len(next(iter(drawn.values())))
    picks = np.random.default_rng(seed).integers(len(seeds), size=(len(seeds), n))
    rows, means, over = [], {}, {}
    for name in dict.fromkeys(name for name, _ in values):
        rows += [(name, str(s), metric, values[name, s], *np.quantile(drawn[name, s], tails)) for s in seeds]
        means[name] = np.mean([values[name, s] for s in seeds])
        over[name] = np.take_along_axis(np.stack([drawn[name, s] for s in seeds]), picks, 0).mean(0)
        rows.append((name, "all", metric, means[name], *np.quantile(over[name], tails)))
    for name in means:
        if name != ours:
            low, high = np.quantile(over[name] - over[ours], tails)
            rows.append((name, "all", f"gap_{metric}", means[name] - means[ours], low, high))
    return pd.DataFrame(rows, columns=COLUMNS)


def probe(x: np.ndarray, labels: np.ndarray, query: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Probabilities of the classes by logistic regression on standardised inputs; cells x classes."""
    model = make_pipeline(StandardScaler(), LogisticRegression(**HEAD)).fit(x, labels)
    probabilities = np.zeros((len(query), len(classes)))
    probabilities[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(query)
    return probabilities


def partition_scores(
    spaces: dict, labels: np.ndarray, strata: np.ndarray, ours: str, *, bootstrap, confidence, seed
) -> pd.DataFrame:
    """Agreement of k-means, with as many clusters as classes, with the classes; cells are drawn after clustering.

    Parameters
    ----------
    spaces
        (method, seed) to cells x D.
    labels
        Class of each cell.
    strata
        Library of each cell.
    ours, bootstrap, confidence, seed
        As of `explained`.
    """
    rng, n_classes = np.random.default_rng(seed), len(np.unique(labels))
    groups = [np.flatnonzero(strata == name) for name in np.unique(strata)]
    n_draws = min(bootstrap, PARTITION_DRAWS)
    draws = [np.concatenate([rng.choice(part, len(part)) for part in groups]) for _ in range(n_draws)]
    seeds = list(dict.fromkeys(s for _, s in spaces))
    found = {
        key: KMeans(n_classes, n_init=RESTARTS, random_state=int(key[1])).fit_predict(space)
        for key, space in spaces.items()
    }
    tables = []
    for metric, score in PARTITION_METRICS.items():
        values = {key: score(labels, clusters) for key, clusters in found.items()}
        drawn = {key: np.array([score(labels[rows], part[rows]) for rows in draws]) for key, part in found.items()}
        # Cells that are drawn twice agree with themselves, which lifts the score: draws get the value as their mean.
        drawn = {key: part - part.mean() + values[key] for key, part in drawn.items()}
        tables.append(seed_table(values, drawn, seeds, ours, metric, confidence, seed))
    return pd.concat(tables)
