"""Task heads: a classifier on the cell embedding that starts from what a linear model knows."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from regulonformer.adapt.linear import LinearPath
from regulonformer.balance import class_weights
from regulonformer.model.batch import OBSERVED, CellBatch

HIDDEN = 64
CELL_SCALE = 0.15  # of the cell embedding beside the linear features, whose deviations fall from one: a like penalty
MIN_STD = 1e-4
INVERSE_PENALTY = 0.3  # C of the logistic regression that the head starts from, as in the baselines


class TaskHead(nn.Module):
    """Logits = linear(linear features) + from_cell(cell embedding) + correction(linear features, cell embedding).

    The correction is a small network whose last layer starts at zero: at the start the head is a linear model of
    features and embedding, and whatever training adds is added to it.

    Parameters
    ----------
    n_features
        Linear features.
    width
        Width D of the cell embedding.
    n_classes
        Classes C.
    dropout
        Dropout in the correction.
    """

    def __init__(self, n_features: int, width: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)
        self.from_cell = nn.Linear(width, n_classes, bias=False)
        self.register_buffer("cell_mean", torch.zeros(width))
        self.register_buffer("cell_std", torch.ones(width))
        self.register_buffer("temperature", torch.ones(()))
        self.hidden = nn.Linear(n_features + width, HIDDEN)
        self.correction = nn.Linear(HIDDEN, n_classes)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.zeros_(self.from_cell.weight)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, features_BK: Tensor, cell_BD: Tensor) -> Tensor:
        """Logits, B x C."""
        cell_BD = self.in_units(cell_BD)
        joined = torch.cat([features_BK, cell_BD], dim=1)
        correction_BC = self.correction(self.dropout(F.gelu(self.hidden(self.dropout(joined)))))
        return (self.linear(features_BK) + self.from_cell(cell_BD) + correction_BC) / self.temperature

    def standardise(self, cell_BD: Tensor) -> None:
        """Take mean and deviation of the base model's embedding of training cells as its origin and unit.

        What tells cells apart may be a small part of their embedding, which a layer norm within a cell would not show.
        """
        self.cell_mean.copy_(cell_BD.mean(0))
        self.cell_std.copy_(cell_BD.std(0).clamp_min(MIN_STD))

    def in_units(self, cell_BD: Tensor) -> Tensor:
        """Return embeddings as deviations from the mean training cell."""
        return (cell_BD - self.cell_mean) / self.cell_std

    def start_from_logistic_regression(
        self, features_BK: Tensor, target_B: np.ndarray, balance: bool, cell_BD: Tensor | None = None
    ) -> None:
        """Set the linear parts to the logistic regression of the training cells (L2 penalty).

        Parameters
        ----------
        features_BK
            Linear features of the training cells.
        target_B
            Class index of each.
        balance
            Weight classes by the inverse square root of their size.
        cell_BD
            Cell embedding of each; None leaves it to training.
        """
        cell_BD = features_BK[:, :0] if cell_BD is None else self.in_units(cell_BD) * CELL_SCALE
        n_features = features_BK.shape[1]
        present, counts = np.unique(target_B, return_counts=True)
        weight = dict(zip(present, class_weights(counts), strict=True)) if balance else None
        fitted = LogisticRegression(max_iter=300, C=INVERSE_PENALTY, class_weight=weight)
        fitted.fit(torch.cat([features_BK, cell_BD], dim=1).numpy(), target_B)
        coefficients, intercept = fitted.coef_, fitted.intercept_
        if len(present) == 2:
            # scikit-learn keeps one row for two classes: the log odds of the second.
            coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercept, intercept] / 2
        with torch.no_grad():
            coefficients = torch.as_tensor(coefficients, dtype=torch.float32)
            self.linear.weight[present] = coefficients[:, :n_features]
            self.from_cell.weight.zero_()
            if coefficients.shape[1] > n_features:
                self.from_cell.weight[present] = coefficients[:, n_features:] * CELL_SCALE
            self.linear.bias[present] = torch.as_tensor(intercept, dtype=torch.float32)


class Classifier(nn.Module):
    """Encoder, linear path and task head.

    Parameters
    ----------
    encoder
        A `Regulonformer`.
    linear_path
        Fitted on the training cells.
    n_classes
        Classes C.
    dropout
        Dropout in the head.
    """

    def __init__(self, encoder: nn.Module, linear_path: LinearPath, n_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder, self.linear_path = encoder, linear_path
        self.task_head = TaskHead(linear_path.n_features, encoder.config.width, n_classes, dropout)

    def forward(self, batch: CellBatch, whole: CellBatch | None = None) -> Tensor:
        """Logits, B x C.

        In training the encoder reads thinned cells (`batch`) and the linear path, which is fixed, the `whole` ones: a
        cell thinned would recall itself.
        """
        return self.task_head(self.linear_path(batch if whole is None else whole), self.encoder.cell_embedding(batch))


def drop_genes(batch: CellBatch, share: float, generator: torch.Generator) -> CellBatch:
    """Set a random share of the observed values to zero, each modality on its own, as shallower sequencing would.

    Parameters
    ----------
    batch
        Cells.
    share
        Share of values dropped.
    generator
        Source of randomness (CPU).
    """
    if share <= 0:
        return batch

    def thin(values_BT: Tensor, state_BT: Tensor) -> Tensor:
        drawn_BT = torch.rand(values_BT.shape, generator=generator).to(values_BT.device)
        return values_BT.masked_fill((drawn_BT < share) & (state_BT == OBSERVED), 0.0)

    rna_BT, atac_BT = thin(batch.rna_BT, batch.rna_state_BT), thin(batch.atac_BT, batch.atac_state_BT)
    return batch._replace(rna_BT=rna_BT, atac_BT=atac_BT)
