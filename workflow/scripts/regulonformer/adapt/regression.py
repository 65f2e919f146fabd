"""Adapt the pretrained model to a number of each cell, such as pseudotime: the classifier's parts with one output."""

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from regulonformer.adapt.cohort import Cohort
from regulonformer.adapt.fit import ATAC_SCALES, FinetuneSettings, evaluate_loss
from regulonformer.adapt.fold import train_fold
from regulonformer.adapt.linear import LinearPath
from regulonformer.adapt.lora import attach, base_of, read_task
from regulonformer.adapt.reader import Reader
from regulonformer.adapt.start import fit_path
from regulonformer.adapt.tasks import Classifier, TaskHead

REMEMBERED = 2000  # training cells at most whose numbers the head recalls
KERNEL_NEIGHBOURS = 10  # whose distance gives the width of its kernel
SAME = 1e-8  # squared distance below which a remembered cell is the cell itself
PENALTIES = np.logspace(-2, 4, 13)  # of the ridge regression; one is chosen by leave-one-out on the training cells


class HuberLoss:
    """Huber loss of standardised numbers: squared up to one deviation, linear beyond, so that odd cells do not rule."""

    def train(self, numbers_B1: Tensor, target_B: Tensor) -> Tensor:
        """Loss of a batch, to be minimised."""
        return F.huber_loss(numbers_B1[:, 0], target_B)

    def sums(self, numbers_B1: Tensor, target_B: Tensor) -> tuple[float, float]:
        """Loss summed over cells, and their number."""
        return F.huber_loss(numbers_B1[:, 0], target_B, reduction="sum").item(), len(target_B)


class RegressionResult(NamedTuple):
    """What one fold gives.

    Attributes
    ----------
    regressor
        Adapted and trained; its output is in deviations from the mean of the training cells.
    rows
        Corpus rows of the held-out cells, in the order of `predicted`.
    predicted
        (cells,) in the units of the column.
    losses
        Rows epoch, split, loss.
    about
        What to record: mode, best_epoch, parameters, linear_path, numbers_remembered, dropout.
    """

    regressor: PeftModel
    rows: np.ndarray
    predicted: np.ndarray
    losses: list[dict]
    about: dict


def regress_fold(
    encoder, reader: Reader, cohort: Cohort, settings: FinetuneSettings, seed: int, device: str = "cpu"
) -> RegressionResult:
    """Fine-tune on a fold's training cells, as `settings.mode` says, and predict the number of its held-out cells.

    Parameters
    ----------
    encoder
        Pretrained `Regulonformer`; its weights stay as they are.
    reader
        Reads cells of the corpus.
    cohort
        Cells of the fold, of `make_regression_cohort`.
    settings
        Settings of section `finetune`; those of classes are not used.
    seed
        Seed of first weights, order, dropout and augmentation.
    device
        Torch device.
    """
    regressor, start = build_regressor(deepcopy(encoder), reader, cohort, settings, seed)
    regressor, losses, about = train_fold(regressor, reader, cohort, settings, seed, device, HuberLoss())
    test = reader.in_order(cohort.test)
    predicted = predict_numbers(regressor, reader.read, test, device)
    predicted = cohort.summary["mean"] + cohort.summary["deviation"] * predicted
    return RegressionResult(regressor, np.concatenate(test), predicted, losses, about | start)


class NumberHead(TaskHead):
    """Task head with one output, to whose linear features a recalled number is added.

    The recalled number is the mean of the numbers of training cells, weighted by a Gaussian kernel of their distance in
    the space of cell embeddings (Nadaraya 1964, Watson 1964): what a nearest-neighbour regression knows, and a linear
    model does not, such as a time that runs along a branching tree.

    Parameters
    ----------
    n_features, width, dropout
        As in `TaskHead`, without the recalled number.
    n_remembered
        Training cells M that are remembered.
    """

    def __init__(self, n_features: int, width: int, dropout: float, n_remembered: int) -> None:
        super().__init__(n_features + 1, width, 1, dropout)
        self.register_buffer("cell_MD", torch.zeros(n_remembered, width))
        self.register_buffer("number_M", torch.zeros(n_remembered))
        self.register_buffer("bandwidth", torch.ones(()))

    def forward(self, features_BK: Tensor, cell_BD: Tensor) -> Tensor:
        """Standardised numbers, B x 1; in training the nearest remembered cell is left out."""
        squares_BM = self._squares(cell_BD)
        if self.training:
            # Thinned or adapted, a training cell is not quite where it is remembered, but hardly any is nearer: without
            # this it would recall its own number, and the head would learn to rely on it.
            squares_BM = squares_BM.scatter(1, squares_BM.argmin(1, keepdim=True), torch.inf)
        recalled_B1 = self.recall(squares_BM)[:, None]
        return super().forward(torch.cat([features_BK, recalled_B1], dim=1), cell_BD)

    def remember(self, cell_MD: Tensor, number_M: Tensor) -> None:
        """Keep training cells, and take the typical distance of their neighbours as the width of the kernel."""
        self.cell_MD.copy_((cell_MD - self.cell_mean) / self.cell_std)
        self.number_M.copy_(number_M)
        k = min(KERNEL_NEIGHBOURS + 1, len(number_M))  # the first neighbour is the cell itself
        near_M = torch.cdist(self.cell_MD, self.cell_MD).square().kthvalue(k, dim=1).values
        self.bandwidth.copy_(near_M.median().clamp_min(1e-6) / 3)

    def recall_of_others(self, cell_BD: Tensor) -> Tensor:
        """Recalled numbers of training cells from all remembered cells but themselves, (B,)."""
        squares_BM = self._squares(cell_BD)
        return self.recall(squares_BM.masked_fill(squares_BM < SAME, torch.inf))

    def recall(self, squares_BM: Tensor) -> Tensor:
        """Recalled numbers by squared distances, (B,)."""
        return (-squares_BM / self.bandwidth).softmax(1) @ self.number_M

    def _squares(self, cell_BD: Tensor) -> Tensor:
        cell_BD = (cell_BD - self.cell_mean) / self.cell_std
        return torch.cdist(cell_BD, self.cell_MD, compute_mode="donot_use_mm_for_euclid_dist").square()


class Regressor(Classifier):
    """Encoder, linear path and number head; the parts are named as those of a `Classifier`."""

    def __init__(self, encoder: nn.Module, linear_path: LinearPath, n_remembered: int, dropout: float = 0.1) -> None:
        super().__init__(encoder, linear_path, 1, dropout)
        self.task_head = NumberHead(linear_path.n_features, encoder.config.width, dropout, n_remembered)


def build_regressor(encoder, reader: Reader, cohort: Cohort, settings: FinetuneSettings, seed: int):
    """Fit the linear path and a ridge regression on the training cells, and put both on the encoder.

    Parameters
    ----------
    encoder, reader, cohort, settings, seed
        As in `regress_fold`.

    Returns
    -------
    (Regressor, dict)
        And what to record: `numbers_remembered`, and of the linear path what `build_classifier` records.
    """
    batches, validation = reader.in_order(cohort.train), reader.in_order(cohort.validation)
    encoded = [reader.read(rows) for rows in batches]
    path = fit_path(encoder.n_genes, reader, cohort, settings, seed)
    target_B = torch.as_tensor(cohort.target[np.concatenate(batches)])
    kept = np.sort(np.random.default_rng(seed).permutation(len(target_B))[:REMEMBERED])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        regressor = Regressor(encoder, path, len(kept), settings.dropout)
    head, scales = regressor.task_head, {}
    with torch.inference_mode():
        cell_BD = torch.cat([encoder.cell_embedding(batch) for batch in encoded])
    head.standardise(cell_BD[kept])
    head.remember(cell_BD[kept], target_B[kept])
    recalled_B = head.recall_of_others(cell_BD)
    for scale in ATAC_SCALES if validation else ():
        path.set_atac_scale(scale)
        _start_from_ridge(regressor, encoded, recalled_B, target_B)
        scales[scale] = evaluate_loss(regressor, reader.read, validation, cohort.target, HuberLoss())
    best = min(scales, key=scales.get) if scales else ATAC_SCALES[0]
    path.set_atac_scale(best)
    _start_from_ridge(regressor, encoded, recalled_B, target_B)
    losses = {str(scale): loss for scale, loss in scales.items()}
    linear_path = {"components": path.components, "remembered": path.n_remembered, "scale": path.scales()}
    return regressor, {"numbers_remembered": len(kept), "linear_path": linear_path | {"validation_loss": losses}}


def load_regressor(encoder: nn.Module, folder, base_hash: str) -> tuple[PeftModel, dict]:
    """Put a saved adapter of a regression on its base model; as `load_classifier`.

    `task.json` holds the `mean` and `deviation` that turn its output into the column's units.

    Raises
    ------
    InputError
        If the adapter was trained on another base model.
    """
    task = read_task(folder, base_hash)
    model = Regressor(*base_of(encoder, folder, task), task["numbers_remembered"], task["dropout"])
    return attach(model, folder), task


def predict_numbers(model: nn.Module, read, batches: list[np.ndarray], device: str = "cpu") -> np.ndarray:
    """Outputs for the cells of `batches`, in their order: (cells,)."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(read(rows).to(device))[:, 0].cpu() for rows in batches]).numpy()


def _start_from_ridge(regressor: Regressor, encoded: list, recalled_B: Tensor, target_B: Tensor) -> None:
    """Set the linear part of the head to the ridge regression of the training cells."""
    with torch.inference_mode():
        features_BK = torch.cat([regressor.linear_path(batch) for batch in encoded])
    fitted = RidgeCV(PENALTIES).fit(torch.cat([features_BK, recalled_B[:, None]], dim=1).numpy(), target_B.numpy())
    with torch.no_grad():
        regressor.task_head.linear.weight.copy_(torch.as_tensor(fitted.coef_[None], dtype=torch.float32))
        regressor.task_head.linear.bias.fill_(float(fitted.intercept_))
