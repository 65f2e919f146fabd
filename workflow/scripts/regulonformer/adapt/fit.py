"""Train an adapter and a task head, and predict with them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.adapt.cohort import Cohort
from regulonformer.adapt.linear import LinearPath
from regulonformer.adapt.reader import Reader
from regulonformer.adapt.tasks import Classifier, LinearClassifier, drop_genes
from regulonformer.balance import class_weights
from regulonformer.log import progress
from regulonformer.model.batch import CellBatch

WARM_UP = 0.05  # share of the steps
CLIP = 1.0
STANDARD_CELLS = 1000  # training cells that give the unit of the cell embedding
ATAC_SCALES = (1.0, 0.3, 0.1)  # of accessibility features against RNA features in the linear path
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of fine-tuning.

    Attributes
    ----------
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
    validation_share
        Share of the training cells that choose the best epoch.
    """

    rank: int = 8
    alpha: float = 16
    adapter_dropout: float = 0.0
    dropout: float = 0.1
    targets: list[str] = field(default_factory=lambda: list(TARGETS))
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
    validation_share: float = 0.1


def build_classifier(encoder, reader: Reader, cohort: Cohort, settings: FinetuneSettings, seed: int):
    """Fit the linear path and the logistic regression on the training cells, and put both on the encoder.

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
        The classifier, and what to record of its linear path: components of each modality, scale of the
        accessibility features (chosen by the validation loss of the linear start; sparse accessibility otherwise
        makes it worse than RNA alone) and that loss for each scale.
    """
    batches, validation = reader.in_order(cohort.train), reader.in_order(cohort.validation)
    encoded = [reader.read(rows) for rows in batches]
    path = LinearPath.fit(encoded, encoder.n_genes, settings.linear_components, settings.n_top_genes, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(encoder, path, len(cohort.classes), settings.dropout)
    sample = np.sort(np.random.default_rng(seed).permutation(cohort.train)[:STANDARD_CELLS])
    with torch.inference_mode():
        embedded = [encoder(reader.read(rows)).cell_BD for rows in reader.in_order(sample)]
    classifier.task_head.standardise(torch.cat(embedded))
    target = cohort.target[np.concatenate(batches)]
    weight_C, scales = _loss_weights(target, settings.balance), {}
    for scale in ATAC_SCALES if validation else ():
        path.set_atac_scale(scale)
        features = torch.cat([path(batch) for batch in encoded]).numpy()
        classifier.task_head.start_from_logistic_regression(features, target, settings.balance)
        linear = LinearClassifier(path, classifier.task_head.linear)
        scales[scale] = evaluate_loss(linear, reader.read, validation, cohort.target, weight_C)
    best = min(scales, key=scales.get) if scales else ATAC_SCALES[0]
    path.set_atac_scale(best)
    features = torch.cat([path(batch) for batch in encoded]).numpy()
    classifier.task_head.start_from_logistic_regression(features, target, settings.balance)
    about = {"components": path.components, "atac_scale": best}
    return classifier, about | {"validation_loss": {str(scale): loss for scale, loss in scales.items()}}


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

    Returns
    -------
    (list of dict, int)
        Rows epoch, split, loss; and the epoch kept.
    """
    trained = epoch_batches(0)
    weight_C = _loss_weights(target[np.concatenate(trained)], settings.balance).to(device)
    steps = settings.epochs * len(trained)
    optimizer, schedule = _optimizer(model, settings, steps)
    generator = torch.Generator().manual_seed(seed)
    rows, best, kept = [], (np.inf, 0), _trainable_state(model)

    def check(epoch: int) -> None:
        nonlocal best, kept
        loss = evaluate_loss(model, read, validation, target, weight_C, device)
        rows.append({"epoch": epoch, "split": "validation", "loss": loss})
        if loss < best[0]:
            best, kept = (loss, epoch), _trainable_state(model)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if validation:
            check(0)
        for epoch in progress(range(1, settings.epochs + 1), settings.epochs, "fine-tuning", "epoch"):
            loss = _train_epoch(
                model, read, epoch_batches(epoch), target, weight_C, settings, optimizer, schedule, generator, device
            )
            rows.append({"epoch": epoch, "split": "train", "loss": loss})
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


def evaluate_loss(model, read, batches, target, weight_C: Tensor, device: str = "cpu") -> float:
    """Class-weighted cross-entropy, computed once over all cells of `batches`."""
    model.eval()
    total = weight = 0.0
    with torch.inference_mode():
        for rows in batches:
            target_B = torch.as_tensor(target[rows], device=device)
            total += F.cross_entropy(model(read(rows).to(device)), target_B, weight_C, reduction="sum").item()
            weight += weight_C[target_B].sum().item()
    return total / weight


def _train_epoch(model, read, batches, target, weight_C, settings, optimizer, schedule, generator, device) -> float:
    """One pass over the training cells; returns the mean loss of its steps."""
    model.train()
    losses = []
    for rows in batches:
        batch = drop_genes(read(rows), settings.gene_dropout, generator).to(device)
        target_B = torch.as_tensor(target[rows], device=device)
        loss = F.cross_entropy(model(batch), target_B, weight_C, label_smoothing=settings.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], CLIP)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
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


def _loss_weights(target_B: np.ndarray, balance: bool) -> Tensor:
    """Weight of each class in the loss, from the training cells."""
    counts = np.bincount(target_B)
    return torch.as_tensor(class_weights(counts) if balance else np.ones(len(counts)), dtype=torch.float32)


def _trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Copy what training changes."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
