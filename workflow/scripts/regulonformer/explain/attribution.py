"""Which genes, in which modality, a prediction rests on: integrated gradients on the input values.

Integrated gradients (Sundararajan et al. 2017, 1703.01365) by captum. RNA and accessibility are two inputs, so that
each gene gets one attribution per modality. What is explained is the centred logit of a class, its logit less the mean
of all logits: adding a number to all logits changes no prediction, so it must change no explanation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from regulonformer.explain.baseline import list_baseline
from regulonformer.model.batch import MODALITIES, CellBatch

# Cells explained at a time, and tokens of them at all points of the path that are in memory at a time.
BATCH_CELLS, PASS_TOKENS = 8, 32_000
# Points of the rule in each piece of a path, and points without gradients at which the logit is looked at beforehand,
# at least.
PIECE_POINTS, PROFILE_POINTS = 3, 13
# Points of the first attempt, and the error of the integral (share of the change) that needs no second one.
FIRST_STEPS, ENOUGH = 12, 0.04
# Share of the points that are spread evenly, wherever the logit changes.
EVEN = 0.2


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of attribution.

    Attributes
    ----------
    baseline
        `others`: mean cell of the other classes; `zero`: a cell without counts.
    baseline_genes
        Genes of the mean cell that are compared with in every cell, the strongest ones.
    steps
        Points of the path from the baseline to the cell, at most; fewer are taken where contributions add up.
    cells_per_class
        Cells explained per class and fold, at most.
    seeds
        Seeds explained, the first ones of the run.
    seed
        Seed of the choice of cells.
    """

    baseline: str = "others"
    baseline_genes: int = 1000
    steps: int = 48
    cells_per_class: int = 30
    seeds: int = 2
    seed: int = 0


class Attribution(NamedTuple):
    """Attributions of a batch of cells; the tokens T are those of `batch`.

    Attributes
    ----------
    batch
        The cells, with the genes of the baseline among their tokens.
    values_BMT
        Attribution of each token in each modality; zero for padding and missing modalities.
    direction_BMT
        1 where the cell lies above its baseline, -1 where below, else 0.
    change_B
        Centred logit of the cell, as the model reads it, less that of the baseline.
    error_B
        Sum of attributions minus `change_B`: zero if complete.
    listing_B
        The part of `error_B` that comes from the longer list of tokens and not from the integral.
    """

    batch: CellBatch
    values_BMT: Tensor
    direction_BMT: Tensor
    change_B: Tensor
    error_B: Tensor
    listing_B: Tensor


def choose_cells(predictions: list[pd.DataFrame], per_class: int, seed: int) -> pd.DataFrame:
    """Draw held-out cells of each class that every model predicts correctly.

    Cells are named by their id, never by a position in a subset, so that they mean the same in any table.

    Parameters
    ----------
    predictions
        cell, truth, predicted: one table per model (seed) of a fold.
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
    table = pd.concat(predictions)
    right = (table["truth"] == table["predicted"]).groupby(table["cell"].to_numpy()).all()
    correct = predictions[0][predictions[0]["cell"].map(right)].sort_values("cell")
    parts = []
    for name, cells in correct.groupby("truth", sort=True)["cell"]:
        drawn = np.sort(rng.permutation(cells.to_numpy().astype(str))[:per_class])
        parts.append(pd.DataFrame({"cell": drawn, "class": name}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"cell": [], "class": []}, dtype=str)


def integrated_gradients(
    model: nn.Module, batch: CellBatch, class_B: Tensor, steps: int, baseline_CMN: Tensor | None = None, n_listed=0
) -> Attribution:
    """Attribute the centred logit of a class of each cell to its input values.

    Parameters
    ----------
    model
        Classifier: `CellBatch` to logits B x C, in evaluation mode.
    batch
        Cells.
    class_B
        Class explained in each cell.
    steps
        Points of the integration rule, in pieces of 3.
    baseline_CMN
        Values of the baseline of each class; None for the same cell with all values zero.
    n_listed
        Genes of the baseline that become tokens of every cell, see `list_baseline`.
    """
    listed, baselines = batch, (torch.zeros_like(batch.rna_BT), torch.zeros_like(batch.atac_BT))
    if baseline_CMN is not None:
        listed, baselines = list_baseline(batch, class_B, baseline_CMN, n_listed)
    others = [name for name in CellBatch._fields if name not in ("rna_BT", "atac_BT")]
    rest = tuple(getattr(listed, name) for name in others)

    def centred_logits(rna_BT: Tensor, atac_BT: Tensor, *rest: Tensor) -> Tensor:
        # captum repeats every tensor along the steps, so the batch is put together from what it hands over.
        logits_BC = model(CellBatch(**dict(zip(others, rest, strict=True)), rna_BT=rna_BT, atac_BT=atac_BT))
        return logits_BC - logits_BC.mean(1, keepdim=True)

    inputs = (listed.rna_BT, listed.atac_BT)

    def on_path(share_B: Tensor) -> tuple[Tensor, ...]:
        """Values at a share of the way from the baseline to each cell."""
        return tuple(start + share_B[:, None] * (x - start) for x, start in zip(inputs, baselines, strict=True))

    n_pieces = max(1, steps // PIECE_POINTS)
    row, own = torch.arange(len(class_B)), [getattr(batch, name) for name in others]
    with torch.inference_mode():
        profile_PB = torch.stack(
            [
                centred_logits(*on_path(torch.full((len(class_B),), float(share))), *rest)[row, class_B]
                for share in torch.linspace(0, 1, max(PROFILE_POINTS, n_pieces + 1))
            ]
        )
        # The cell as the model reads it, without the tokens that were added: the layers update their states, zero at
        # the input, and that share of the logit belongs to no value.
        reached_B = centred_logits(batch.rna_BT, batch.atac_BT, *own)[row, class_B]
    knots_JB = _knots(profile_PB.numpy(), n_pieces)
    values_BMT = 0
    for first_B, last_B in zip(knots_JB[:-1], knots_JB[1:], strict=True):
        parts = IntegratedGradients(centred_logits, multiply_by_inputs=True).attribute(
            on_path(last_B),
            baselines=on_path(first_B),
            target=class_B,
            additional_forward_args=rest,
            n_steps=PIECE_POINTS,
            method="gausslegendre",
            internal_batch_size=max(PASS_TOKENS // listed.genes_BT.shape[1], len(class_B)),
        )
        values_BMT = values_BMT + torch.stack(parts, dim=1).detach()
    direction_BMT = torch.stack([(x - start).sign() for x, start in zip(inputs, baselines, strict=True)], dim=1)
    change_B = reached_B - profile_PB[0]
    error_B = values_BMT.sum((1, 2)) - change_B
    return Attribution(listed, values_BMT, direction_BMT, change_B, error_B, profile_PB[-1] - reached_B)


def _knots(profile_PB: np.ndarray, n_pieces: int) -> Tensor:
    """Cut each cell's path into pieces in which its logit changes about as much; (pieces + 1) x cells, from 0 to 1.

    Points then lie where the logit changes, and not on the plateaus of a classifier (non-uniform integrated gradients:
    Bhat and Raychowdhury 2023, arXiv 2302.11107).
    """
    steps_PB = np.abs(np.diff(profile_PB, axis=0))
    total_B = np.maximum(steps_PB.sum(0), 1e-6)
    density_PB = (1 - EVEN) * steps_PB / total_B + EVEN / len(steps_PB)
    reached_PB = np.concatenate([np.zeros((1, density_PB.shape[1])), density_PB.cumsum(0)])
    reached_PB /= reached_PB[-1]
    even, wanted = np.linspace(0, 1, len(profile_PB)), np.linspace(0, 1, n_pieces + 1)
    knots = [np.interp(wanted, reached_P, even) for reached_P in reached_PB.T]
    return torch.as_tensor(np.stack(knots, axis=1), dtype=torch.float32)


class Explained(NamedTuple):
    """Attributions of a set of cells X over all genes N of the vocabulary.

    Attributes
    ----------
    values_XMN
        Attributions (float32); zero at genes that are no token of a cell.
    direction_XMN
        Whether the cell lies above (1) or below (-1) its baseline (int8).
    check_X3
        Change of the centred logit, completeness error, and its part that comes from the list of tokens.
    steps_X
        Points of the path that were taken.
    """

    values_XMN: np.ndarray
    direction_XMN: np.ndarray
    check_X3: np.ndarray
    steps_X: np.ndarray


def explain_cells(
    model: nn.Module,
    read: Callable[[np.ndarray], CellBatch],
    rows: np.ndarray,
    class_of_row: np.ndarray,
    n_genes: int,
    settings: ExplainSettings,
    baseline_CMN: Tensor | None = None,
) -> Explained:
    """Attribute a set of cells.

    Parameters
    ----------
    model
        Classifier in evaluation mode; its parameters need no gradients.
    read
        Gives the `CellBatch` of an array of corpus rows.
    rows
        Rows of the cells in the corpus.
    class_of_row
        Class explained, aligned with `rows`.
    n_genes
        Genes N of the vocabulary.
    settings
        Steps and genes of the baseline.
    baseline_CMN
        Baseline of each class; None for a cell without counts.
    """
    values_XMN = np.zeros((len(rows), len(MODALITIES), n_genes), np.float32)
    direction_XMN, check_X3 = np.zeros(values_XMN.shape, np.int8), np.zeros((len(rows), 3))
    steps_X = np.zeros(len(rows), int)
    for start in range(0, len(rows), BATCH_CELLS):
        at = slice(start, start + BATCH_CELLS)
        batch, class_B, steps = read(rows[at]), torch.as_tensor(class_of_row[at]), min(FIRST_STEPS, settings.steps)
        found = integrated_gradients(model, batch, class_B, steps, baseline_CMN, settings.baseline_genes)
        while steps < settings.steps and not _is_enough(found):
            steps = min(2 * steps, settings.steps)
            found = integrated_gradients(model, batch, class_B, steps, baseline_CMN, settings.baseline_genes)
        cell, token = np.nonzero(~found.batch.pad_BT.numpy())
        gene = found.batch.genes_BT.numpy()[cell, token]
        values_XMN[start + cell, :, gene] = found.values_BMT.numpy()[cell, :, token]
        direction_XMN[start + cell, :, gene] = found.direction_BMT.numpy()[cell, :, token]
        check_X3[at] = torch.stack([found.change_B, found.error_B, found.listing_B], dim=1).numpy()
        steps_X[at] = steps
    return Explained(values_XMN, direction_XMN, check_X3, steps_X)


def _is_enough(found: Attribution) -> bool:
    """Whether more points of the path would hardly change the attributions."""
    missing_B = (found.error_B - found.listing_B).abs()
    return bool(missing_B.sum() <= ENOUGH * found.change_B.abs().sum())
