"""Attribute the predictions of a task to genes and modalities, on held-out cells that were predicted correctly."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regulonformer.adapt.lora import load_classifier
from regulonformer.adapt.reader import Reader
from regulonformer.explain.attribution import (
    AttributionSums,
    ExplainSettings,
    attribute_cells,
    choose_cells,
    completeness,
)
from regulonformer.io.store import read_parquet, write_json, write_parquet
from regulonformer.log import progress, rule_log
from regulonformer.pretrained import load_model


def main(*, model, shards, cells, vocabulary, adapters, settings, attribution, completeness_json, threads=1) -> None:
    """Explain a task with the adapter of each fold (one seed), each on the cells that it never saw.

    Parameters
    ----------
    model
        Folder of the pretrained model.
    shards, cells, vocabulary
        The corpus.
    adapters
        Folders of `finetune_task`, one per fold, each with its predictions.parquet.
    settings
        Section `explain`.
    attribution
        Parquet to write: class, gene, modality, attribution, std, n_cells, fold, specificity.
    completeness_json
        JSON to write: how far the attributions are from adding up.
    threads
        Threads.
    """
    options = ExplainSettings(**settings)
    torch.set_num_threads(threads)
    base = load_model(model)
    reader = Reader(shards, cells, vocabulary, base.vocabulary)
    symbols = base.vocabulary["symbol"].to_numpy()
    tables, checks, unexplained = [], {}, {}
    for folder in progress(adapters, len(adapters), "attribution", "fold"):
        classifier, task = load_classifier(base.model, folder, base.hash)
        predictions = read_parquet(Path(folder) / "predictions.parquet")
        chosen = choose_cells(predictions, options.cells_per_class, options.seed)
        rows = reader.cells.index.get_indexer(chosen["cell"])
        if (rows < 0).any():
            raise ValueError(f"{folder}: predictions of cells that are not in the corpus")
        classes = pd.Index(task["classes"]).get_indexer(chosen["class"])
        sums = AttributionSums(task["classes"], len(symbols))
        fold = task["split"]["fold"]
        by_length = np.argsort(reader.lengths[rows], kind="stable")
        checks[fold] = attribute_cells(
            classifier, reader.read, rows[by_length], classes[by_length], sums, options.steps
        )
        tables.append(sums.table(symbols, fold))
        missed = sorted(set(predictions["truth"]) - set(chosen["class"]))
        if missed:
            logging.warning("fold %s: no held-out cell of %s was predicted correctly", fold, missed)
            unexplained[fold] = missed
    write_parquet(pd.concat(tables, ignore_index=True), attribution)
    report = completeness(checks) | {"steps": options.steps, "classes_without_correct_cells": unexplained}
    write_json(completeness_json, report)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            model=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            adapters=[Path(path).parent for path in job.input.adapters],
            settings=job.params.explain,
            attribution=job.output.attribution,
            completeness_json=job.output.completeness,
            threads=job.threads,
        )
