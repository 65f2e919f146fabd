"""Train an adapter and a task head, and predict with them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from regulonformer.adapt.tasks import drop_genes
from regulonformer.balance import class_weights
from regulonformer.log import progress
from regulonformer.model.batch import CellBatch
from regulonformer.model.encoder import LINEAR_LAYERS

WARM_UP = 0.05  # share of the steps
CLIP = 1.0
ATAC_SCALES = (1.0, 0.3, 0.1)  # of accessibility features against RNA features in the linear path
FEWEST_CALIBRATED, LOG_TEMPERATURES = 20, (-1.5, 1.5)


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of fine-tuning.

    Attributes
    ----------
    mode
        What trains beside the head: `lora`, low-rank adapters; `frozen`, nothing; `full`, the whole encoder.
    rank, alpha, adapter_dropout, targets
        LoRA: rank, scale (alpha / rank), dropout on its input, linear layers adapted.
    dropout
        Dropout in the task head.
    epochs
        Passes over the training cells, at most.
    patience
        Epochs without a better validation loss after which training stops.
    batch_cells
        Cells per step.
    learning_rate, head_learning_rate
        Peak rates of the adapter and of the task head.
    weight_decay
        Of AdamW.
    balance
        Weight classes by the inverse square root of their size.
    label_smoothing
        Share of the target spread over all classes.
    gene_dropout
        Share of values set to zero in training, as augmentation.
    linear_components
        PCA and LSI components of the linear path.
    n_top_genes
        Highly variable genes for its PCA.
    remembered_cells
        Cells, not held out, that the linear path remembers, at most; 0 for none.
    validation_share
        Share of the training cells that choose the best epoch.
    """

    mode: str = "lora"
    rank: int = 8
    alpha: float = 16
    adapter_dropout: float = 0.0
    dropout: float = 0.1
    targets: list[str] = field(default_factory=lambda: list(LINEAR_LAYERS))
    epochs: int = 4
    patience: int = 2
    batch_cells: int = 64
    learning_rate: float = 5.0e-4
    head_learning_rate: float = 5.0e-4
    weight_decay: float = 0.01
    balance: bool = True
    label_smoothing: float = 0.05
    gene_dropout: float = 0.1
    linear_components: int = 50
    n_top_genes: int = 2000
    remembered_cells: int = 20_000
    validation_share: float = 0.1


# Give the rows of a batch, in epochs of shuffled batches and in order: both come from the corpus.
ReadBatch = Callable[[np.ndarray], CellBatch]
EpochBatches = Callable[[int], list[np.ndarray]]


def fit_classifier(
    model: nn.Module,
    read: ReadBatch,
    epoch_batches: EpochBatches,
    validation: list[np.ndarray],
    target: np.ndarray,
    settings: FinetuneSettings,
    *,
    seed: int,
    device: str = "cpu",
    loss=None,
) -> tuple[list[dict], int]:
    """Train what is trainable; keep the epoch with the lowest validation loss (epoch 0 is the untrained start).

    Parameters
    ----------
    model
        Adapted classifier; changed in place.
    read
        Gives the `CellBatch` of an array of corpus rows.
    epoch_batches
        Gives the shuffled batches (arrays of rows) of an epoch number.
    validation
        Batches of validation rows; empty: the last epoch is kept.
    target
        Class index of every corpus row (-1 where it has none).
    settings
        Settings of this section.
    seed
        Seed of dropout and augmentation.
    device
        Torch device.
    loss
        Loss with the methods of `ClassLoss`, which is the default.

    Returns
    -------
    (list of dict, int)
        Rows epoch, split, loss; and the epoch kept.
    """
    trained = epoch_batches(0)
    loss = loss or ClassLoss(target[np.concatenate(trained)], settings)
    steps = settings.epochs * len(trained)
    optimizer, schedule = _optimizer(model, settings, steps)
    generator = torch.Generator().manual_seed(seed)
    rows, best, kept = [], (np.inf, 0), _trainable_state(model)

    def check(epoch: int) -> None:
        nonlocal best, kept
        value = evaluate_loss(model, read, validation, target, loss, device)
        rows.append({"epoch": epoch, "split": "validation", "loss": value})
        if value < best[0]:
            best, kept = (value, epoch), _trainable_state(model)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if validation:
            check(0)
        for epoch in progress(range(1, settings.epochs + 1), settings.epochs, "fine-tuning", "epoch"):
            value = _train_epoch(
                model, read, epoch_batches(epoch), target, loss, settings, optimizer, schedule, generator, device
            )
            rows.append({"epoch": epoch, "split": "train", "loss": value})
            if validation:
                check(epoch)
                if epoch - best[1] >= settings.patience:
                    break
    if not validation:
        return rows, settings.epochs
    model.load_state_dict(kept, strict=False)
    return rows, best[1]


def predict(model: nn.Module, read: ReadBatch, batches: list[np.ndarray], device: str = "cpu") -> np.ndarray:
    """Class probabilities of the cells of `batches`, in their order: cells x C."""
    model.eval()
    with torch.inference_mode():
        parts = [model(read(rows).to(device)).softmax(1).cpu() for rows in batches]
    return torch.cat(parts).numpy()


def calibrate(
    model: nn.Module, read: ReadBatch, validation: list[np.ndarray], target: np.ndarray, device: str = "cpu"
) -> float:
    """Divide the logits of a trained classifier by the number that fits validation cells best (Guo 2017, 1706.04599).

    Parameters
    ----------
    model
        Classifier on `device`; its head keeps the temperature.
    read, validation, target, device
        As in `fit_classifier`.

    Returns
    -------
    float
        Temperature; 1 with fewer than 20 validation cells. Predicted classes stay the same.
    """
    rows = np.concatenate(validation) if validation else np.array([], int)
    if len(rows) < FEWEST_CALIBRATED:
        return 1.0
    log_BC = torch.as_tensor(predict(model, read, validation, device)).double().clamp_min(1e-30).log()
    target_B = torch.as_tensor(target[rows])

    def loss(log_t: float) -> float:
        return F.cross_entropy(log_BC / np.exp(log_t), target_B).item()

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded")
    temperature = float(np.exp(found.x))
    model.get_base_model().task_head.temperature.fill_(temperature)
    return temperature


class ClassLoss:
    """Cross-entropy, classes weighted by their size among the training cells.

    Parameters
    ----------
    target_B
        Class index of the training cells.
    settings
        Settings of this section: balance, label_smoothing.
    """

    def __init__(self, target_B: np.ndarray, settings: FinetuneSettings) -> None:
        counts = np.bincount(target_B)
        weight = class_weights(counts) if settings.balance else np.ones(len(counts))
        self.weight_C, self.smoothing = torch.as_tensor(weight, dtype=torch.float32), settings.label_smoothing

    def train(self, logits_BC: Tensor, target_B: Tensor) -> Tensor:
        """Loss of a batch, to be minimised."""
        return F.cross_entropy(logits_BC, target_B, self.weight_C.to(logits_BC.device), label_smoothing=self.smoothing)

    def sums(self, logits_BC: Tensor, target_B: Tensor) -> tuple[float, float]:
        """Loss summed over cells without smoothing, and their weight: for a mean over many batches."""
        weight_C = self.weight_C.to(logits_BC.device)
        total = F.cross_entropy(logits_BC, target_B, weight_C, reduction="sum").item()
        return total, weight_C[target_B].sum().item()


def evaluate_loss(model, read, batches, target, loss, device: str = "cpu") -> float:
    """Loss as `loss.sums` gives it, computed once over all cells of `batches`."""
    model.eval()
    total = weight = 0.0
    with torch.inference_mode():
        for rows in batches:
            sums = loss.sums(model(read(rows).to(device)), torch.as_tensor(target[rows], device=device))
            total, weight = total + sums[0], weight + sums[1]
    return total / weight


def _train_epoch(model, read, batches, target, loss, settings, optimizer, schedule, generator, device) -> float:
    """One pass over the training cells; returns the mean loss of its steps."""
    model.train()
    losses = []
    for rows in batches:
        whole = read(rows)
        thinned = drop_genes(whole, settings.gene_dropout, generator)
        target_B = torch.as_tensor(target[rows], device=device)
        value = loss.train(model(thinned.to(device), whole.to(device)), target_B)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], CLIP)
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    return float(np.mean(losses))


def _optimizer(model: nn.Module, settings: FinetuneSettings, steps: int):
    """AdamW with a rate per part, linear warm-up and a cosine to zero."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if "lora_" in name], "lr": settings.learning_rate},
        {"params": [p for name, p in named if "lora_" not in name], "lr": settings.head_learning_rate},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=settings.weight_decay)
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + np.cos(np.pi * (step - warm_up) / max(1, steps - warm_up)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Copy what training changes."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
