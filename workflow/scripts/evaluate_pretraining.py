"""Score the pretrained model beside simple predictors, on the same hidden values of held-out cells."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from regulonformer.corpus.sampler import hold_out
from regulonformer.corpus.shards import Corpus
from regulonformer.evaluate.bootstrap import bootstrap_losses
from regulonformer.evaluate.count_predictors import PREDICTORS, Profile
from regulonformer.evaluate.masked_cells import masked_batches, masked_data
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.pretraining import model_sums, predictor_sums
from regulonformer.io.store import write_tsv
from regulonformer.log import rule_log
from regulonformer.model.batch import MODALITIES
from regulonformer.objectives import make_objective
from regulonformer.pretrained import load_model
from regulonformer.training.loop import VALIDATION_STREAM

# Beyond these, cells are drawn at random: so many to score, to fit simple predictors to, and to choose their settings.
TEST_CELLS, TRAINING_CELLS, CHOOSING_CELLS = 2000, 10_000, 300
FLOOR = "mean profile"


def main(*, folder, shards, cells, vocabulary, settings: dict, pretrain: dict, run: str, output, threads=1) -> None:
    """Write losses with intervals (tsv).

    Parameters
    ----------
    folder
        Model folder.
    shards, cells, vocabulary
        The corpus.
    settings
        Section `evaluate`: bootstrap, confidence, pca_components, seed.
    pretrain
        Section `pretrain` with its recipe: what was held out, and how values are hidden.
    run
        Name of the data set in the table.
    output
        TSV to write. `loss_*` is the loss per hidden entry; `gap_*` is the loss of a method less ours, over the same
        resamples of cells (above 0: ours is lower).
    threads
        Threads for linear algebra.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # for the rest of this process: sums of several threads differ in their last bits
    corpus, model, seed = Corpus(shards, cells, vocabulary), load_model(folder).model, pretrain["seed"]
    objective = make_objective(pretrain["recipe_settings"]["objective"], model.n_genes).reconstruction
    held = hold_out(corpus.cells, pretrain["holdout"], seed)

    def masked(rows, stream):
        return list(masked_batches(objective, corpus, rows, pretrain["batch_cells"], (seed, stream)))

    test = masked(_some(np.flatnonzero(held), TEST_CELLS, seed), VALIDATION_STREAM)
    found = model_sums(model, objective, test)
    ours = f"regulonformer ({pretrain['recipe']})"
    sums = {ours: found["nll"], FLOOR: found["floor"]}
    rows = np.concatenate([numbers for numbers, _ in test])
    if objective.predicts == "counts":
        training_rows = _some(np.flatnonzero(~held), TRAINING_CELLS, seed)
        training = masked_data(masked(training_rows, 0), model.n_genes)
        inner = _choosing(corpus.cells.iloc[training.rows], seed)
        heads, hidden = model.heads, masked_data(test, model.n_genes)
        starts = (heads.gene_log_mean, heads.floor_log_dispersion)
        profiles = [Profile(*(part[:, m].numpy().astype(np.float64) for part in starts)) for m in range(2)]
        for name in PREDICTORS:
            arguments = (training, inner, hidden, corpus, profiles, settings["pca_components"])
            sums[name] = predictor_sums(name, *arguments)
    else:
        logging.info("kNN and ridge predict counts, and this recipe is not scored on counts: they are left out")
    strata = corpus.cells["sample"].astype(str).to_numpy()[rows]
    table = pd.DataFrame(_rows(sums, found["weight"], strata, settings), columns=["method", *COLUMNS[4:]])
    table = table.assign(dataset=f"{run}: hidden values of held-out cells", fold="pooled", seed=str(seed))
    write_tsv(table[list(COLUMNS)], output)


def _some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """All rows, or so many of them at random, in order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _choosing(cells: pd.DataFrame, seed: int) -> np.ndarray:
    """Training cells to choose settings on: of the last library, or a tenth of all where libraries differ in kind."""
    held, has = hold_out(cells, "auto", seed), cells[["has_rna", "has_atac"]]
    if (has[held].any() != has[~held].any()).any():
        held = hold_out(cells.assign(sample="all"), "auto", seed)
    inner = np.zeros(len(cells), bool)
    inner[_some(np.flatnonzero(held), CHOOSING_CELLS, seed)] = True
    return inner


def _rows(sums: dict, weight_CM: np.ndarray, strata: np.ndarray, settings: dict) -> list[tuple]:
    """Method, metric, value and interval: losses, and gaps to the first method."""
    rows, tails = [], [(1 - settings["confidence"]) / 2, (1 + settings["confidence"]) / 2]
    for m, modality in enumerate(MODALITIES):
        weight, mine = weight_CM[:, m], {method: values[:, m] for method, values in sums.items()}
        if not weight.sum():
            continue
        drawn = bootstrap_losses(mine, weight, strata, settings["bootstrap"], settings["seed"])
        ours = next(iter(sums))
        for method, values in mine.items():
            loss, gap = values.sum() / weight.sum(), (values - mine[ours]).sum() / weight.sum()
            rows.append((method, f"loss_{modality}", loss, *np.quantile(drawn[method], tails)))
            if method != ours:
                rows.append((method, f"gap_{modality}", gap, *np.quantile(drawn[method] - drawn[ours], tails)))
    return rows


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            folder=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            settings=job.params.evaluate,
            pretrain=job.params.pretrain,
            run=job.params.run,
            output=job.output.pretraining,
            threads=job.threads,
        )
