"""What a classifier knows before training: the linear path, and a logistic regression on it and the embedding."""

import numpy as np
import torch

from regulonformer.adapt.cohort import Cohort
from regulonformer.adapt.fit import ATAC_SCALES, ClassLoss, FinetuneSettings
from regulonformer.adapt.linear import LinearPath
from regulonformer.adapt.reader import Reader
from regulonformer.adapt.tasks import Classifier

PATH_CELLS = 50_000  # that the linear path is learned from, at most; their residuals are in memory


def build_classifier(encoder, reader: Reader, cohort: Cohort, settings: FinetuneSettings, seed: int):
    """Fit the linear path and, on the training cells, the logistic regression; put both on the encoder.

    Parameters
    ----------
    encoder
        Pretrained `Regulonformer`.
    reader
        Reads cells.
    cohort
        Cells of the fold.
    settings
        Settings of this section.
    seed
        Seed of the decompositions and of the head's first weights.

    Returns
    -------
    (Classifier, dict)
        The classifier, and what to record of its start: components of each part of the linear path, cells remembered,
        weight of each part and whether the cell embedding is read, as `_weigh_parts` chose them, and the validation
        loss of each choice.
    """
    batches, validation = reader.in_order(cohort.train), reader.in_order(cohort.validation)
    encoded = [reader.read(rows) for rows in batches]
    path = fit_path(encoder.n_genes, reader, cohort, settings, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(encoder, path, len(cohort.classes), settings.dropout)
    features_BK, cell_BD = _features(classifier, encoded)
    classifier.task_head.standardise(cell_BD)
    target_B = cohort.target[np.concatenate(batches)]
    train, losses = (features_BK, cell_BD, target_B), {}
    use_cell = True
    if validation:
        held = _features(classifier, [reader.read(rows) for rows in validation])
        use_cell, losses = _weigh_parts(classifier, train, (*held, cohort.target[np.concatenate(validation)]), settings)
    _start(classifier, train, settings, use_cell)
    about = {"components": path.components, "remembered": path.n_remembered, "scale": path.scales()}
    return classifier, about | {"cell_embedding": use_cell, "validation_loss": losses}


def fit_path(n_genes: int, reader: Reader, cohort: Cohort, settings: FinetuneSettings, seed: int) -> LinearPath:
    """Learn the linear path, which needs no labels, from all cells but those held out: labels may be few.

    Parameters
    ----------
    n_genes
        Genes N of the vocabulary.
    reader, cohort, settings, seed
        As in `build_classifier`.
    """
    rows = np.setdiff1d(np.arange(len(reader.cells)), cohort.test)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:PATH_CELLS])
    encoded = [reader.read(batch) for batch in reader.in_order(rows)]
    path = LinearPath.fit(encoded, n_genes, settings.linear_components, settings.n_top_genes, seed)
    path.remember(encoded, settings.remembered_cells, seed)
    return path


def _features(classifier: Classifier, batches: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the linear path and cell embeddings."""
    with torch.no_grad():
        path = torch.cat([classifier.linear_path(batch) for batch in batches])
        return path, torch.cat([classifier.encoder.cell_embedding(batch) for batch in batches])


def _start(classifier: Classifier, train: tuple, settings: FinetuneSettings, use_cell: bool) -> None:
    """Start the head from the logistic regression of the training cells, with the weights that the path has."""
    features_BK, cell_BD, target_B = train
    features_BK = features_BK * classifier.linear_path.scale_K
    classifier.task_head.start_from_logistic_regression(
        features_BK, target_B, settings.balance, cell_BD if use_cell else None
    )


def _weigh_parts(classifier: Classifier, train: tuple, held: tuple, settings: FinetuneSettings):
    """Choose how much each part counts at the start, by the loss of validation cells.

    Sparse accessibility can make a linear model worse than RNA alone, so can neighbours where classes are finer than
    they are, and so can the embedding of a model that hardly was trained. The path is left with the best choice.

    Returns
    -------
    (bool, dict of str to float)
        Whether the start reads the cell embedding, and the loss of each choice.
    """
    path, head, losses = classifier.linear_path, classifier.task_head, {}
    loss, target_B = ClassLoss(train[-1], settings), torch.as_tensor(held[-1])

    def best(choices: list[dict[str, float]]) -> dict[str, float]:
        tried = []
        for scales in choices:
            path.set_scales(**scales)
            _start(classifier, train, settings, scales["cell"] > 0)
            with torch.inference_mode():
                total, weight = loss.sums(head(held[0] * path.scale_K, held[1]), target_B)
            tried.append(total / weight)
            losses[" ".join(f"{name} {scale:g}" for name, scale in scales.items())] = tried[-1]
        return choices[int(np.argmin(tried))]

    recalled = float(path.recall is not None)
    chosen = best([{"atac": scale, "recalled": recalled, "cell": 1.0} for scale in ATAC_SCALES])
    if recalled:
        chosen = best([chosen, chosen | {"recalled": 0.0}])
    chosen = best([chosen, chosen | {"cell": 0.0}])
    path.set_scales(**chosen)
    return chosen["cell"] > 0, losses
