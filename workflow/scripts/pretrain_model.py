"""Pretrain a Regulonformer on masked RNA and accessibility of all cells but those held out."""

import logging
import time
from hashlib import sha256
from json import dumps
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regulonformer.corpus.profile import mean_profile, principal_loadings
from regulonformer.corpus.sampler import hold_out
from regulonformer.corpus.shards import Corpus
from regulonformer.corpus.vocabulary import regulon_edges
from regulonformer.io.store import file_hash, read_parquet, write_run_record, write_tsv
from regulonformer.log import rule_log
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.objectives.masked import MaskedConfig, MaskedModelling
from regulonformer.training.checkpoint import Checkpoint, check_regulons, save_model
from regulonformer.training.loop import Trainer, TrainSettings

# Cells that principal components are fitted on, at most.
LOADING_CELLS = 20_000


def main(*, shards, cells, vocabulary, regulons, settings, folder, run, metrics, checkpoints, threads=1, gpu=0):
    """Pretrain and write the model folder.

    Parameters
    ----------
    shards, cells, vocabulary
        The corpus.
    regulons
        Regulon table, the prior of the regulon layers.
    settings
        Section `pretrain`, with the content of the recipe file under `recipe_settings`.
    folder
        Where config.json, model.safetensors and vocabulary.tsv go.
    run, metrics
        Files to write: record of the run, and curves.
    checkpoints
        Folder under which a run that is under way keeps its state; that of this run is deleted at its end.
    threads, gpu
        CPU threads; number of GPUs granted (0: stay on the CPU).
    """
    started = time.time()
    torch.set_num_threads(threads)
    corpus = Corpus(shards, cells, vocabulary)
    held = hold_out(corpus.cells, settings["holdout"], settings["seed"])
    edges = regulon_edges(read_parquet(regulons), corpus.vocabulary)
    model, names = build_model(corpus, np.flatnonzero(~held), edges, settings)
    check_regulons(names, model.tf_S.tolist(), corpus.vocabulary, vocabulary)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    logging.info("%d parameters, %d cells to train on, %d held out", n_parameters, (~held).sum(), held.sum())

    inputs = [vocabulary, cells, regulons, *sorted(file for file in Path(shards).rglob("*") if file.is_file())]
    identity = dumps([settings, [file_hash(file) for file in inputs]], sort_keys=True)
    checkpoint = Checkpoint(Path(checkpoints) / f"{settings['recipe']}_{sha256(identity.encode()).hexdigest()[:16]}")
    objective = MaskedModelling(MaskedConfig.from_dict(settings["recipe_settings"]["objective"]), model.n_genes)
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)
    model = model.to("cuda" if gpu and torch.cuda.is_available() else "cpu")
    trainer = Trainer(model, objective, corpus, train, validation, TrainSettings.from_dict(settings), checkpoint)
    rows = trainer.run()

    save_model(folder, model, corpus.vocabulary, {"regulons": names, "recipe": settings["recipe"]})
    write_tsv(pd.DataFrame(rows), metrics)
    speed = {"n_parameters": n_parameters, "cells_per_second": round(trainer.cells_per_second, 1)}
    kept_out = {"held_out": sorted(corpus.cells["sample"][held].unique())}
    sizes = {"n_train_cells": len(train), "n_validation_cells": len(validation), "steps_taken": trainer.step}
    write_run_record(
        run, config=settings, seed=settings["seed"], inputs=inputs, started=started, extra=speed | kept_out | sizes
    )
    checkpoint.remove()


def build_model(corpus, train_cells, edges, settings):
    """Model at its start, and the TF of each regulon slot.

    The heads start from the mean profile of the training cells, the gene vectors from the loadings of their principal
    components: one half of the width from RNA, the other from accessibility.
    """
    config = ModelConfig.from_dict(settings["recipe_settings"]["model"] | settings["model"])
    sizes = [config.width - config.width // 2, config.width // 2]
    chosen = train_cells[:: -(-len(train_cells) // LOADING_CELLS)]
    means, dispersions, loadings = [], [], []
    for m, counts in enumerate(corpus.rows(chosen)):
        log_mean, log_size = mean_profile(corpus.blocks(train_cells, m))
        means.append(log_mean)
        dispersions.append(log_size)
        loadings.append(principal_loadings(counts, corpus.library[chosen, m], sizes[m]))
    starts = [torch.tensor(np.column_stack(part)) for part in (means, dispersions, loadings)]
    slots = edges.drop_duplicates("slot")
    columns = [edges["slot"], edges["gene"], edges["weight"].astype("float32"), slots["tf_token"]]
    regulons = RegulonEdges(*(torch.tensor(column.to_numpy()) for column in columns))
    torch.manual_seed(settings["seed"])
    return Regulonformer(config, len(corpus.vocabulary), regulons, *starts), slots["tf"].tolist()


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            settings=job.params.pretrain,
            folder=Path(job.output.weights).parent,
            run=job.output.run,
            metrics=job.output.metrics,
            checkpoints=job.params.checkpoints,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
