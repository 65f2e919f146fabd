"""The training loop: one for every objective, device, precision and number of processes."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from itertools import islice

import numpy as np
import torch
from torch import nn

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import EpochSampler, length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.log import progress
from regulonformer.model.allocator import keep_freed_memory
from regulonformer.model.batch import MODALITIES
from regulonformer.training.checkpoint import Checkpoint
from regulonformer.training.curves import curve_row, curve_sums
from regulonformer.training.devices import make_accelerator, peak_memory_gb
from regulonformer.training.schedule import warmup_cosine
from regulonformer.training.settings import TrainSettings
from regulonformer.training.stages import plan_stages
from regulonformer.training.step import Losses, cut, decayed_groups

# Validation masks come from a stream of their own, and are the same each time.
VALIDATION_STREAM = 2**31


class Trainer:
    """Train a model on some cells of a corpus and watch it on others.

    An objective may have stages. Each begins with the weights that the last one ended with and has a learning rate
    that rises and falls, an optimiser, a patience and a best model of its own.

    Every random draw is a function of (seed, step) alone: cells, masks and dropout. A run that is taken up from a
    checkpoint therefore ends with the same bytes as one that was never stopped (on CPU, same number of threads).

    Started by torchrun, processes divide each batch. Masks are drawn, and losses divided, for the batch as a whole:
    gradients add up to those of one process, but for rounding (and dropout, which each draws for itself).

    Parameters
    ----------
    model
        Model; moved to the device.
    objective
        See `regulonformer.objectives`.
    corpus
        Cells.
    train_cells, validation_cells
        Row numbers; the second may be empty.
    settings
        Budget and optimiser.
    checkpoint
        Where the state is kept while the run is under way; None keeps none.
    gpu
        Train on the GPU of this process; otherwise on the CPU.
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
        gpu: bool = False,
    ) -> None:
        self.model, self.corpus, self.settings, self.checkpoint = model, corpus, settings, checkpoint
        self.lengths = corpus.cells["n_active"].to_numpy()
        self.libraries = np.unique(corpus.cells["sample"].astype(str), return_inverse=True)[1]
        self.stages = plan_stages(objective, corpus, train_cells, validation_cells, settings.steps)
        keep_freed_memory()
        self.accelerator = make_accelerator(settings.precision, gpu)
        self.objective = objective
        objective.extend(model, settings.seed)
        model.to(self.accelerator.device)
        self.learnable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if settings.compile:
            model.compile(dynamic=True)
        self.losses = Losses(model, objective)
        self.synchronised = self.accelerator.prepare(self.losses)
        self.step, self.metrics, self.sums = 0, [], torch.zeros(3, 2, dtype=torch.float64)
        self.seen, self.seconds, self.total_seen, self.total_seconds = 0, 0.0, 0, 0.0
        self._enter(0)

    def run(self) -> list[dict]:
        """Train to the end of the budget, or until validation stops improving.

        Returns
        -------
        list of dict
            Rows step, stage, hidden (whether what is scored was hidden), split, loss_rna, floor_rna, loss_atac,
            floor_atac (nats per entry), learning_rate, cells_per_second (of all processes) and memory_gb (peak so far,
            of the first process).
        """
        self._resume()
        self._run_stage()
        for number in range(self.number + 1, len(self.stages)):
            self._enter(number)
            self._run_stage()
        self.cells_per_second = self.total_seen / self.total_seconds if self.total_seconds else None
        for parameter in self.learnable:
            parameter.requires_grad_(True)
        self.objective.fold(self.model)
        self.model.eval()
        return self.metrics

    def _enter(self, number: int) -> None:
        """Begin a stage, with the model as it is."""
        self.number, self.first_step, self.stage = number, self.step, self.stages[number]
        settings, self.losses.objective = self.settings, self.stage.objective
        cells = self.stage.cells
        self.sampler = EpochSampler(cells, self.lengths[cells], settings.batch_cells, settings.seed)
        self.best, self.best_loss, self.waited = None, float("inf"), 0
        self.model.zero_grad(set_to_none=True)  # or what the last stage left would count when gradients are clipped
        trained = {id(parameter) for parameter in self.stage.objective.trains(self.model)}
        for parameter in self.learnable:
            parameter.requires_grad_(id(parameter) in trained)
        groups = decayed_groups(self.model, settings.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self.stage.objective.attach(self.model)

    def _run_stage(self) -> None:
        """Take the steps of the stage that are left, or stop where validation no longer improves."""
        every, end = self.settings, self.first_step + self.stage.steps
        batches = ahead(self._batches(range(self.step, end)))
        if self.accelerator.is_main_process:
            batches = progress(batches, end - self.step, "pretraining")
        started = time.perf_counter()
        for n_cells, prepared in batches:
            self._take_step(n_cells, prepared)
            self.seen += n_cells
            self.seconds += time.perf_counter() - started
            if self.step % every.validate_steps == 0 or self.step == end:
                self.total_seen, self.total_seconds = self.total_seen + self.seen, self.total_seconds + self.seconds
                self._record()
                if self._exhausted():
                    logging.info("no better for %d validations: stopping at step %d", self.waited, self.step)
                    break
            if self.checkpoint and self.step % every.checkpoint_steps == 0:
                self._save()
            started = time.perf_counter()
        if self.best is not None:
            self.model.load_state_dict(self.best)

    def _batches(self, steps: range) -> Iterator[tuple]:
        """Number of cells of each step, and its prepared batch."""
        batches = stream(self.corpus, (self.sampler.batch(step - self.first_step) for step in steps))
        for step, (cells, batch) in zip(steps, batches, strict=True):
            yield len(cells), self._prepare(cells, batch, self._seed(step))

    def _prepare(self, cells: np.ndarray, batch, seed: int):
        """Let the objective hide what it hides; one that asks for it is told the library of each cell."""
        objective, generator = self.stage.objective, torch.Generator().manual_seed(seed)
        if not objective.reads_libraries:
            return objective.prepare(batch, generator)
        return objective.prepare(batch, generator, torch.as_tensor(self.libraries[cells]))

    def _take_step(self, n_cells: int, prepared) -> None:
        """Do one step of the optimiser."""
        settings, accelerator = self.settings, self.accelerator
        place = self.step - self.first_step, self.stage.steps
        rate = settings.learning_rate * warmup_cosine(*place, settings.warmup_share)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        torch.manual_seed(self._seed(self.step, 1 + accelerator.process_index))  # dropout
        self.optimiser.zero_grad(set_to_none=True)
        parts = cut(n_cells, settings.accumulate, accelerator.num_processes, accelerator.process_index)
        for number, rows in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else accelerator.no_sync(self.synchronised):
                part = None if rows is None else prepared.part(rows).to(accelerator.device)
                terms = self.synchronised(part)
                # Gradients are averaged over processes, but it is their sum that belongs to the batch.
                accelerator.backward(terms.loss * accelerator.num_processes)
            self.sums += curve_sums(terms)
        accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimiser.step()
        self.stage.objective.after_step(self.model, self._gather)
        self.step += 1

    def _record(self) -> None:
        """Add a row for the training entries since the last row, and one for the validation cells."""
        rate, device = self.optimiser.param_groups[0]["lr"], self.accelerator.device
        speed = self.seen / self.seconds
        objective = self.stage.objective
        sums = self._total(self.sums)
        self.metrics.append(curve_row(self.step, objective, "train", sums, rate, speed, peak_memory_gb(device)))
        self.sums, self.seen, self.seconds = torch.zeros_like(self.sums), 0, 0.0
        if len(self.stage.watched):
            started = time.perf_counter()
            sums = self.validate()
            speed = len(self.stage.watched) / (time.perf_counter() - started)
            row = curve_row(self.step, objective, "validation", sums, rate, speed, peak_memory_gb(device))
            self.metrics.append(row)
            logging.info(
                "step %d: validation RNA %.4f (floor %.4f), accessibility %.4f (floor %.4f)",
                *(row[key] for key in ("step", "loss_rna", "floor_rna", "loss_atac", "floor_atac")),
            )

    @torch.no_grad()
    def validate(self) -> torch.Tensor:
        """Sums of nll, floor and weight (rows) per modality over the validation cells, with fixed masks.

        Processes take turns with the batches.
        """
        self.model.eval()
        rank, count, sums = self.accelerator.process_index, self.accelerator.num_processes, torch.zeros_like(self.sums)
        watched = self.stage.watched
        batches = length_sorted(watched, self.lengths[watched], self.settings.batch_cells)
        for number, (cells, batch) in enumerate(stream(self.corpus, islice(batches, rank, None, count))):
            prepared = self._prepare(cells, batch, self._seed(VALIDATION_STREAM, rank + number * count))
            sums += curve_sums(self.losses(prepared.to(self.accelerator.device)))
        return self._total(sums)

    def _exhausted(self) -> bool:
        """Keep the best model and tell whether patience is used up."""
        if self.settings.patience is None or not len(self.stage.watched):
            return False
        row = self.metrics[-1]
        # A modality without scored entries has no floor; a loss that is not a number beside one is no improvement.
        loss = sum(row[f"loss_{m}"] for m in MODALITIES if not np.isnan(row[f"floor_{m}"]))
        if loss < self.best_loss:
            self.best, self.best_loss, self.waited = deepcopy(self.model.state_dict()), loss, 0
        else:
            self.waited += 1
        return self.waited >= self.settings.patience

    def _seed(self, *place: int) -> int:
        """Seed of a place in the run."""
        return int(np.random.default_rng([self.settings.seed, *place]).integers(2**31))

    def _total(self, sums: torch.Tensor) -> torch.Tensor:
        """Sum over processes."""
        if self.accelerator.num_processes == 1:
            return sums
        return self.accelerator.reduce(sums.to(self.accelerator.device)).cpu()

    def _gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Join rows of all processes; those that have fewer of them are filled up with zeros."""
        return self.accelerator.gather(self.accelerator.pad_across_processes(rows))

    def _save(self) -> None:
        """Keep everything the rest of the run depends on; random states are functions of the step."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "objective": self.stage.objective.state(),
            "stage": self.number,
            "first_step": self.first_step,
            "step": self.step,
            "metrics": self.metrics,
            "sums": self._total(self.sums),
            "best": self.best,
            "best_loss": float(self.best_loss),
            "waited": self.waited,
        }
        if self.accelerator.is_main_process:
            self.checkpoint.save(state)

    def _resume(self) -> None:
        """Take up the last checkpoint, if there is one."""
        state = self.checkpoint.load() if self.checkpoint else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self._enter(state["stage"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stage.objective.restore(state["objective"])
        for name in ("first_step", "step", "metrics", "best", "best_loss", "waited"):
            setattr(self, name, state[name])
        if self.accelerator.is_main_process:
            self.sums = state["sums"]
        logging.info("resuming at step %d from %s", self.step, self.checkpoint.file)


def ahead(items: Iterator) -> Iterator:
    """Make the next item in a thread while the caller works on the last one; None ends them."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
