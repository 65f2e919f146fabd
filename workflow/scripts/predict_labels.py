"""Predict the cells of a task that have no label, with the models of all folds, or call them unknown."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regulonformer.adapt.fit import predict
from regulonformer.adapt.lora import load_classifier
from regulonformer.adapt.reader import Reader
from regulonformer.adapt.transfer import (
    COMPONENTS,
    choose_confidence,
    mean_probabilities,
    name_cells,
    noticed_if_new,
    novelty,
)
from regulonformer.errors import InputError
from regulonformer.io.store import open_mudata, read_parquet, write_json, write_parquet
from regulonformer.log import progress, rule_log
from regulonformer.pretrained import load_model
from regulonformer.task_labels import to_predict


def main(*, model, shards, cells, vocabulary, multiome, adapters, task, labels, summary, threads=1, gpu=0) -> None:
    """Name the cells without a label.

    Parameters
    ----------
    model
        Folder of the pretrained model.
    shards, cells, vocabulary
        The corpus.
    multiome
        Merged h5mu, whose PCA of RNA (where no cell has RNA: LSI of ATAC) says how far a cell is from labelled ones.
    adapters
        Folders of `finetune_task`, one per fold, each with its predictions.parquet.
    task
        Block of the task.
    labels
        Parquet to write, see `regulonformer.adapt.transfer.name_cells`.
    summary
        JSON to write: thresholds, counts, and how often a class would be noticed if it were new.
    threads, gpu
        Threads, and whether to use a GPU.

    Raises
    ------
    InputError
        If every cell has a label.
    """
    torch.set_num_threads(threads)
    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    base = load_model(model)
    reader = Reader(shards, cells, vocabulary, base.vocabulary)
    rows = np.flatnonzero(to_predict(reader.cells, task, cells))
    if not len(rows):
        problem = f"every cell has a label in {task['column']!r}, or predict_on leaves it out"
        raise InputError(cells, problem, "Set the task's transfer: never")
    held_out = pd.concat([read_parquet(Path(folder) / "predictions.parquet") for folder in adapters], ignore_index=True)
    confidence = held_out[[name for name in held_out if name.startswith("p:")]].max(axis=1).to_numpy()
    correct = (held_out["truth"] == held_out["predicted"]).to_numpy()
    threshold, coverage = choose_confidence(confidence, correct, task["error_rate"])

    classes, probabilities = _ensemble(base, adapters, reader, rows, device)
    space = _places(multiome, reader.cells.index)
    fold = held_out.set_index("cell")["fold"].reindex(reader.cells.index, fill_value=-1).to_numpy()
    truth = held_out.set_index("cell")["truth"].reindex(reader.cells.index, fill_value="").to_numpy()
    p_new = novelty(space, fold, rows)
    # Cells on their way to a state, which the task was told of, are new to it by design.
    rate = 0.0 if task["train_on"] else task["error_rate"]
    table = name_cells(reader.cells.iloc[rows], classes, probabilities, p_new, threshold, rate)
    write_parquet(table, labels)
    reasons = table["reason"].value_counts()
    logging.info("%d cells: %s", len(table), table["predicted"].value_counts().to_dict())
    about = {
        "cells": len(table),
        "uncertain": int(reasons.get("uncertain", 0)),
        "new": int(reasons.get("new", 0)),
        "cells_without_novelty": int(np.isnan(p_new).sum()),
        "error_rate": task["error_rate"],
        "confidence_threshold": threshold if np.isfinite(threshold) else None,
        "held_out_share_labelled": coverage,
        "held_out_errors_if_labelled": float((~correct[confidence >= threshold]).mean()) if coverage else None,
        "noticed_if_new": noticed_if_new(space, fold, truth, rate) if rate else {},
    }
    write_json(summary, about)


def _ensemble(base, adapters, reader: Reader, rows: np.ndarray, device: str) -> tuple[list[str], np.ndarray]:
    """Classes of all adapters, and the mean of their probabilities for each of `rows`."""
    batches, folds = reader.in_order(rows), []
    for folder in progress(adapters, len(adapters), "unlabelled cells", "fold"):
        classifier, about = load_classifier(base.model, folder, base.hash)
        folds.append((about["classes"], predict(classifier.to(device), reader.read, batches, device)))
    classes, probabilities = mean_probabilities(folds)
    return classes, probabilities[np.argsort(np.concatenate(batches))]


def _places(multiome, cells: pd.Index) -> np.ndarray:
    """Leading components of RNA, or of ATAC where no cell has RNA; NaN for cells of the corpus that lack it."""
    data = open_mudata(multiome)
    table, name = (data["rna"], "X_pca") if data["rna"].n_obs else (data["atac"], "X_lsi")
    at, components = table.obs_names.get_indexer(cells), np.asarray(table.obsm[name])[:, :COMPONENTS]
    return np.where((at >= 0)[:, None], components[at], np.nan)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            model=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            multiome=job.input.multiome,
            adapters=[Path(path).parent for path in job.input.adapters],
            task=job.params.task,
            labels=job.output.labels,
            summary=job.output.summary,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
