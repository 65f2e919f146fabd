"""The training loop: one for every objective."""

import logging
import time
from copy import deepcopy
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import nn

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import EpochSampler, length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.log import progress
from regulonformer.model.batch import CellBatch
from regulonformer.training.checkpoint import Checkpoint
from regulonformer.training.schedule import warmup_cosine

# Validation masks come from a stream of their own, and are the same each time.
VALIDATION_STREAM = 2**31


@dataclass(frozen=True)
class TrainSettings:
    """Budget and optimiser of a run; see the schema for each key.

    `patience` counts validations without improvement; with it the best model is kept, without it the last.
    """

    steps: int = 400
    batch_cells: int = 64
    learning_rate: float = 2.0e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    validate_steps: int = 50
    patience: int | None = None
    checkpoint_steps: int = 100
    seed: int = 0

    @classmethod
    def from_dict(cls, values: dict) -> "TrainSettings":
        """Take the keys of this class from a config section; the section has others too."""
        return cls(**{item.name: values[item.name] for item in fields(cls) if item.name in values})


class Trainer:
    """Train a model on some cells of a corpus and watch it on others.

    Every random draw is a function of (seed, step) alone: cells, masks and dropout. A run that is taken up from a
    checkpoint therefore ends with the same bytes as one that was never stopped (on CPU, same number of threads).

    Parameters
    ----------
    model
        Model, on its device.
    objective
        Callable (model, batch, generator) that returns loss, nll_M, floor_M, weight_M.
    corpus
        Cells.
    train_cells, validation_cells
        Row numbers; the second may be empty.
    settings
        Budget and optimiser.
    checkpoint
        Where the state is kept while the run is under way; None keeps none.
    """

    def __init__(
        self,
        model: nn.Module,
        objective,
        corpus: Corpus,
        train_cells: np.ndarray,
        validation_cells: np.ndarray,
        settings: TrainSettings,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.model, self.objective, self.corpus, self.settings = model, objective, corpus, settings
        self.checkpoint, self.validation_cells = checkpoint, np.asarray(validation_cells)
        self.lengths = corpus.cells["n_active"].to_numpy()
        self.sampler = EpochSampler(train_cells, self.lengths[train_cells], settings.batch_cells, settings.seed)
        self.optimiser = torch.optim.AdamW(decayed_groups(model, settings.weight_decay), lr=settings.learning_rate)
        self.step, self.metrics, self.sums = 0, [], torch.zeros(3, 2, dtype=torch.float64)
        self.best, self.best_loss, self.waited = None, float("inf"), 0
        self.cells_per_second = 0.0

    def run(self) -> list[dict]:
        """Train to the end of the budget, or until validation stops improving.

        Returns
        -------
        list of dict
            Rows step, split, loss_rna, floor_rna, loss_atac, floor_atac, learning_rate (losses in nats per entry).
        """
        self._resume()
        every, seen, seconds = self.settings, 0, 0.0
        batches = stream(self.corpus, (self.sampler.batch(step) for step in range(self.step, every.steps)))
        started = time.perf_counter()
        for cells, batch in progress(batches, every.steps - self.step, "pretraining"):
            self._take_step(batch)
            seen += len(cells)
            seconds += time.perf_counter() - started
            if self.step % every.validate_steps == 0 or self.step == every.steps:
                self._record()
                if self._exhausted():
                    logging.info("no better for %d validations: stopping at step %d", self.waited, self.step)
                    break
            if self.checkpoint and self.step % every.checkpoint_steps == 0:
                self.checkpoint.save(self._state())
            started = time.perf_counter()
        self.cells_per_second = seen / seconds if seconds else 0.0
        if self.best is not None:
            self.model.load_state_dict(self.best)
        self.model.eval()
        return self.metrics

    def _take_step(self, batch: CellBatch) -> None:
        """Do one step of the optimiser."""
        settings = self.settings
        seed = int(np.random.default_rng([settings.seed, self.step]).integers(2**31))
        torch.manual_seed(seed)  # dropout
        rate = settings.learning_rate * warmup_cosine(self.step, settings.steps, settings.warmup_share)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        result = self.objective(self.model, batch, torch.Generator().manual_seed(seed))
        self.optimiser.zero_grad(set_to_none=True)
        result.loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimiser.step()
        self.sums += _sums(result)
        self.step += 1

    def _record(self) -> None:
        """Add a row for the training entries since the last row, and one for the validation cells."""
        rate = self.optimiser.param_groups[0]["lr"]
        self.metrics.append(_row(self.step, "train", self.sums, rate))
        self.sums = torch.zeros_like(self.sums)
        if len(self.validation_cells):
            row = _row(self.step, "validation", self.validate(), rate)
            self.metrics.append(row)
            logging.info(
                "step %d: validation RNA %.4f (floor %.4f), accessibility %.4f (floor %.4f)",
                *(row[key] for key in ("step", "loss_rna", "floor_rna", "loss_atac", "floor_atac")),
            )

    @torch.no_grad()
    def validate(self) -> torch.Tensor:
        """Sums of nll, floor and weight (rows) per modality over the validation cells, with fixed masks."""
        self.model.eval()
        generator, sums = torch.Generator().manual_seed(VALIDATION_STREAM + self.settings.seed), 0
        batches = length_sorted(self.validation_cells, self.lengths[self.validation_cells], self.settings.batch_cells)
        for _, batch in stream(self.corpus, batches):
            sums = sums + _sums(self.objective(self.model, batch, generator))
        return sums

    def _exhausted(self) -> bool:
        """Keep the best model and tell whether patience is used up."""
        if self.settings.patience is None or not len(self.validation_cells):
            return False
        row = self.metrics[-1]
        loss = np.nansum([row["loss_rna"], row["loss_atac"]])
        if loss < self.best_loss:
            self.best, self.best_loss, self.waited = deepcopy(self.model.state_dict()), loss, 0
        else:
            self.waited += 1
        return self.waited >= self.settings.patience

    def _state(self) -> dict:
        """Everything the rest of the run depends on; random states are functions of the step."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "metrics": self.metrics,
            "sums": self.sums,
            "best": self.best,
            "best_loss": float(self.best_loss),
            "waited": self.waited,
        }

    def _resume(self) -> None:
        """Take up the last checkpoint, if there is one."""
        state = self.checkpoint.load() if self.checkpoint else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("step", "metrics", "sums", "best", "best_loss", "waited"):
            setattr(self, name, state[name])
        logging.info("resuming at step %d from %s", self.step, self.checkpoint.file)


def decayed_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups in which only the weights of linear layers decay."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [item for item in trained if id(item) in decayed], "weight_decay": weight_decay},
        {"params": [item for item in trained if id(item) not in decayed], "weight_decay": 0.0},
    ]


def _sums(result) -> torch.Tensor:
    """Stack what a curve needs, in double precision."""
    return torch.stack([result.nll_M, result.floor_M, result.weight_M]).double().cpu()


def _row(step: int, split: str, sums: torch.Tensor, rate: float) -> dict:
    """One row of the metrics; NaN where a modality has no scored entry."""
    (loss_rna, loss_atac), (floor_rna, floor_atac) = (sums[:2] / sums[2]).tolist()
    return {
        "step": step,
        "split": split,
        "loss_rna": loss_rna,
        "floor_rna": floor_rna,
        "loss_atac": loss_atac,
        "floor_atac": floor_atac,
        "learning_rate": rate,
    }
