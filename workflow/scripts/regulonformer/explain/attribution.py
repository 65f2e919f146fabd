"""Which genes, in which modality, a prediction rests on: integrated gradients on the input values.

Integrated gradients (Sundararajan et al. 2017, 1703.01365) by captum. RNA and accessibility are two inputs, so that
each gene gets one attribution per modality; the baseline is the same cell with all values zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from regulonformer.model.batch import MODALITIES, CellBatch


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of attribution.

    Attributes
    ----------
    steps
        Points of the Gauss-Legendre rule on the way from the baseline to the cell.
    cells_per_class
        Cells explained per class and fold, at most.
    seed
        Seed of their choice.
    """

    steps: int = 32
    cells_per_class: int = 30
    seed: int = 0


def choose_cells(predictions: pd.DataFrame, per_class: int, seed: int) -> pd.DataFrame:
    """Draw correctly predicted held-out cells of each class.

    Cells are named by their id, never by a position in a subset, so that they mean the same in any table.

    Parameters
    ----------
    predictions
        cell, truth, predicted.
    per_class
        Cells per class, at most.
    seed
        Seed of the draw.

    Returns
    -------
    pandas.DataFrame
        cell, class; sorted by class, then cell.
    """
    rng = np.random.default_rng(seed)
    correct = predictions[predictions["truth"] == predictions["predicted"]].sort_values("cell")
    parts = []
    for name, cells in correct.groupby("truth", sort=True)["cell"]:
        drawn = np.sort(rng.permutation(cells.to_numpy().astype(str))[:per_class])
        parts.append(pd.DataFrame({"cell": drawn, "class": name}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"cell": [], "class": []}, dtype=str)


def integrated_gradients(
    model: nn.Module, batch: CellBatch, class_B: Tensor, steps: int, internal_cells: int = 256
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attribute the logit of a class of each cell to its input values.

    Parameters
    ----------
    model
        Classifier: `CellBatch` to logits B x C, in evaluation mode.
    batch
        Cells.
    class_B
        Class explained in each cell.
    steps
        Points of the integration rule.
    internal_cells
        Cells x steps per forward pass.

    Returns
    -------
    rna_BT, atac_BT
        Attribution of each token in each modality; zero for padding and missing modalities.
    change_B
        Logit at the cell minus logit at the baseline.
    error_B
        Sum of attributions minus `change_B`: zero if complete.
    """

    def logits(rna_BT: Tensor, atac_BT: Tensor, *rest: Tensor) -> Tensor:
        # captum repeats every tensor along the steps, so the batch is put together from what it hands over.
        return model(CellBatch(**dict(zip(others, rest, strict=True)), rna_BT=rna_BT, atac_BT=atac_BT))

    others = [name for name in CellBatch._fields if name not in ("rna_BT", "atac_BT")]
    rest = tuple(getattr(batch, name) for name in others)
    inputs = (batch.rna_BT, batch.atac_BT)
    baselines = tuple(torch.zeros_like(values) for values in inputs)
    rna_BT, atac_BT = IntegratedGradients(logits, multiply_by_inputs=True).attribute(
        inputs,
        baselines=baselines,
        target=class_B,
        additional_forward_args=rest,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=max(internal_cells, len(class_B)),
    )
    with torch.inference_mode():
        row = torch.arange(len(class_B))
        change_B = logits(*inputs, *rest)[row, class_B] - logits(*baselines, *rest)[row, class_B]
    rna_BT, atac_BT = rna_BT.detach(), atac_BT.detach()
    return rna_BT, atac_BT, change_B, rna_BT.sum(1) + atac_BT.sum(1) - change_B


class AttributionSums:
    """Sums over the cells of a class, from which mean and deviation per gene follow.

    Genes that are silent in a cell count with attribution zero.

    Parameters
    ----------
    classes
        Class names.
    n_genes
        Genes N of the vocabulary.
    """

    def __init__(self, classes: list[str], n_genes: int) -> None:
        self.classes = list(classes)
        self.n_cells = np.zeros(len(classes), dtype=int)
        self.sums = np.zeros((len(classes), len(MODALITIES), n_genes))
        self.squares = np.zeros_like(self.sums)

    def add(self, class_B: np.ndarray, genes_BT: np.ndarray, pad_BT: np.ndarray, values_BT: list[np.ndarray]) -> None:
        """Add cells: their class, their genes, and one array of attributions per modality."""
        np.add.at(self.n_cells, class_B, 1)
        cell, token = np.nonzero(~pad_BT)
        for m, values in enumerate(values_BT):
            at, value = (class_B[cell], m, genes_BT[cell, token]), values[cell, token].astype(float)
            np.add.at(self.sums, at, value)
            np.add.at(self.squares, at, value**2)

    def table(self, symbols: np.ndarray, fold: int) -> pd.DataFrame:
        """Tidy rows class, gene, modality, attribution, std, n_cells, fold, specificity.

        Specificity is a class's mean attribution minus the largest of the other classes (0 as other class where
        there is none). Genes without any attribution in any class are left out.
        """
        seen = np.flatnonzero(self.n_cells)
        n = self.n_cells[seen, None, None]
        mean = self.sums[seen] / n
        std = np.sqrt(np.maximum(self.squares[seen] / n - mean**2, 0))
        specificity = mean - _largest_other(mean)
        parts = []
        for m, modality in enumerate(MODALITIES):
            genes = np.flatnonzero(np.abs(mean[:, m]).sum(0) > 0)
            for c, index in enumerate(seen):
                part = pd.DataFrame({"class": self.classes[index], "gene": symbols[genes], "modality": modality})
                part["attribution"], part["std"] = mean[c, m, genes], std[c, m, genes]
                part["n_cells"], part["fold"] = int(self.n_cells[index]), fold
                parts.append(part.assign(specificity=specificity[c, m, genes]))
        columns = ["class", "gene", "modality", "attribution", "std", "n_cells", "fold", "specificity"]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def attribute_cells(
    model: nn.Module,
    read: Callable[[np.ndarray], CellBatch],
    rows: np.ndarray,
    class_of_row: np.ndarray,
    sums: AttributionSums,
    steps: int,
    batch_cells: int = 16,
) -> np.ndarray:
    """Attribute a set of cells and add them to `sums`.

    Parameters
    ----------
    model
        Classifier in evaluation mode.
    read
        Gives the `CellBatch` of an array of corpus rows.
    rows
        Rows of the cells in the corpus.
    class_of_row
        Class explained, aligned with `rows`.
    sums
        Receives the attributions.
    steps
        Points of the integration rule.
    batch_cells
        Cells per pass.

    Returns
    -------
    numpy.ndarray
        (cells, 2): change of the logit, and completeness error.
    """
    checks = []
    for start in range(0, len(rows), batch_cells):
        batch, classes = read(rows[start : start + batch_cells]), class_of_row[start : start + batch_cells]
        rna_BT, atac_BT, change_B, error_B = integrated_gradients(model, batch, torch.as_tensor(classes), steps)
        sums.add(classes, batch.genes_BT.numpy(), batch.pad_BT.numpy(), [rna_BT.numpy(), atac_BT.numpy()])
        checks.append(torch.stack([change_B, error_B], dim=1).numpy())
    return np.concatenate(checks) if checks else np.zeros((0, 2))


def completeness(checks: dict[int, np.ndarray]) -> dict:
    """Summarise how far attributions are from adding up to the change of the logit.

    Parameters
    ----------
    checks
        Fold to (cells, 2): change of the logit and error.

    Returns
    -------
    dict
        Of all folds (`overall`) and each (`folds`): cells, relative_error (sum of |error| over sum of |change|) and
        median_relative_error (over cells).
    """

    def summary(values: np.ndarray) -> dict:
        change, error = np.abs(values).T if len(values) else np.zeros((2, 0))
        if not len(change):
            return {"cells": 0, "relative_error": None, "median_relative_error": None}
        per_cell = error / np.maximum(change, 1e-6)
        return {
            "cells": len(change),
            "relative_error": float(error.sum() / max(change.sum(), 1e-6)),
            "median_relative_error": float(np.median(per_cell)),
        }

    folds = {str(fold): summary(values) for fold, values in checks.items()}
    return {"overall": summary(np.concatenate(list(checks.values()))), "folds": folds}


def _largest_other(mean: np.ndarray) -> np.ndarray:
    """For each class (first axis) the largest value among the others; 0 if it is alone."""
    if len(mean) < 2:
        return np.zeros_like(mean)
    ranked = np.sort(mean, axis=0)
    first, second = ranked[-1], ranked[-2]
    return np.where(mean.argmax(0)[None] == np.arange(len(mean))[:, None, None], second, first)
