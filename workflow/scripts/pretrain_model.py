"""Pretrain a Regulonformer on masked RNA and accessibility of all cells but those held out."""

import logging
import time
from hashlib import sha256
from json import dumps
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import regulonformer
from regulonformer.config.sources import modules_of
from regulonformer.corpus.sampler import hold_out
from regulonformer.corpus.shards import Corpus
from regulonformer.corpus.vocabulary import regulon_edges
from regulonformer.io.store import file_hash, read_parquet, write_run_record, write_tsv
from regulonformer.log import rule_log
from regulonformer.model.precision import uses_bf16
from regulonformer.model_card import write_card
from regulonformer.objectives import make_objective
from regulonformer.pretrained import check_regulons, save_model
from regulonformer.training.checkpoint import Checkpoint
from regulonformer.training.devices import granted_device
from regulonformer.training.launch import launch
from regulonformer.training.settings import TrainSettings
from regulonformer.training.stages import plan_stages
from regulonformer.training.start import build_model, files_of, take_up
from regulonformer.training.train import train


def main(
    *,
    shards,
    cells,
    vocabulary,
    regulons,
    settings,
    folder,
    run,
    metrics,
    checkpoints,
    elements=None,
    base=None,
    sequence=None,
    threads=1,
    gpu=0,
):
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
        Where config.json, model.safetensors, vocabulary.tsv, elements.parquet and the card (README.md) go.
    run, metrics
        Files to write: record of the run, and curves.
    checkpoints
        Folder under which a run that is under way keeps its state; that of this run is deleted at its end.
    elements
        Peaks of each gene, as the corpus lists them; saved with the model, so that it can read peaks of other data.
    base, sequence
        For recipes with dynamic tokens: folder of the model that is taken up, and folder of the vectors of sequences.
    threads, gpu
        CPU threads, divided among processes; number of GPUs granted, one process for each (0: stay on the CPU).
    """
    started = time.time()
    torch.set_num_threads(threads)
    corpus = Corpus(shards, cells, vocabulary)
    held = hold_out(corpus.cells, settings["holdout"], settings["seed"])
    training, validation = np.flatnonzero(~held), np.flatnonzero(held)
    objective = make_objective(settings["recipe_settings"]["objective"], len(corpus.vocabulary))
    plan_stages(objective, corpus, training, validation, settings["steps"])  # refuses cells that a stage cannot use
    edges = regulon_edges(read_parquet(regulons), corpus.vocabulary)
    if base:
        model, names, warm_start = take_up(base, sequence, corpus.vocabulary, settings)
    else:
        (model, names), warm_start = build_model(corpus, training, edges, settings), {}
    check_regulons(names, model.tf_S.tolist(), corpus.vocabulary, vocabulary)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    logging.info("%d parameters, %d cells to train on, %d held out", n_parameters, (~held).sum(), held.sum())

    inputs = [vocabulary, cells, regulons, *files_of(base, sequence)]
    inputs += sorted(file for file in Path(shards).rglob("*") if file.is_file())
    device = granted_device(gpu)
    processes = settings["processes"] if device == "cpu" else gpu
    logging.info("training on %s, %d process(es), %d thread(s)", device, processes, threads)
    # What rounds sums in another way gives other bytes.
    arithmetic = [torch.__version__, device, processes, threads, uses_bf16(settings["precision"], device != "cpu")]
    checkpoint = _checkpoint(Path(checkpoints), settings, arithmetic, inputs, started)
    done = launch(
        train,
        processes,
        model,
        objective,
        (shards, cells, vocabulary),
        training,
        validation,
        TrainSettings.from_dict(settings),
        checkpoint,
        device != "cpu",
    )
    model.load_state_dict(done["weights"])

    about = {"regulons": names, "recipe": settings["recipe"]}
    save_model(folder, model, corpus.vocabulary, about, read_parquet(elements) if elements else None)
    write_tsv(pd.DataFrame(done["rows"]), metrics)
    libraries, speed = corpus.cells["sample"], done["cells_per_second"]
    record = {
        "n_parameters": n_parameters,
        **warm_start,
        "n_train_cells": len(training),
        "n_validation_cells": len(validation),
        "trained_on": sorted(libraries[~held].unique()),
        "held_out": sorted(libraries[held].unique()),
        "steps_taken": done["steps"],
        "cells_per_second": speed and round(speed, 1),
        "precision": done["precision"],
        "device": device,
        "processes": processes,
        "compile": settings["compile"],
    }
    started -= done["earlier_seconds"]
    write_run_record(run, config=settings, seed=settings["seed"], inputs=inputs, started=started, extra=record)
    write_card(folder)
    checkpoint.remove()


def _checkpoint(folder: Path, settings: dict, arithmetic: list, inputs: list, started: float) -> Checkpoint:
    """Checkpoint of this run: a state of other settings, arithmetic, inputs or code is not taken up, but named."""
    scripts = Path(regulonformer.__file__).parents[1]
    code = [scripts / "pretrain_model.py", *modules_of(scripts / "pretrain_model.py", scripts)]
    identity = dumps([settings, arithmetic, [file_hash(file) for file in inputs + code]], sort_keys=True)
    checkpoint = Checkpoint(folder / f"{settings['recipe']}_{sha256(identity.encode()).hexdigest()[:16]}", started)
    for other in sorted(folder.glob(f"{settings['recipe']}_{'[0-9a-f]' * 16}")):
        if other != checkpoint.folder:
            logging.info("not taken up: %s, of other settings, inputs, code, torch, device or threads", other)
    return checkpoint


# Processes that this one starts load the script once more, under another name.
if __name__ == "__main__" and (job := globals().get("snakemake")):
    with rule_log(job.log[0]):
        main(
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            elements=job.input.elements,
            base=Path(job.input.base).parent if job.input.base else None,
            sequence=Path(job.input.sequence).parent if job.input.sequence else None,
            settings=job.params.pretrain,
            folder=Path(job.output.weights).parent,
            run=job.output.run,
            metrics=job.output.metrics,
            checkpoints=job.params.checkpoints,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
