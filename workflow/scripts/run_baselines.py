"""Predict each held-out fold with simple classifiers: the floor and the rivals of the model."""

import logging

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from regulonformer.errors import InputError
from regulonformer.evaluate.baselines import EvaluateSettings, predict_baselines
from regulonformer.evaluate.splits import assign_folds
from regulonformer.io.multiome import counts_of
from regulonformer.io.store import open_mudata, write_parquet
from regulonformer.log import progress, rule_log
from regulonformer.task_labels import class_labels, learn_from


def main(
    *, multiome, settings: dict, task: dict, group: str, folds: int, seeds: list[int], output, threads: int = 1
) -> None:
    """Fit all baselines in the folds that the model uses, and write their predictions.

    Parameters
    ----------
    multiome
        Merged h5mu.
    settings
        Section `evaluate`.
    task
        Block of the task; `column` names the label.
    group, folds
        Column whose values are held out as a whole (donor or sample), and number of folds.
    seeds
        Seeds of the methods that have one.
    output
        Parquet to write: method, cell, sample, donor, fold, seed, truth, predicted, probability.
    threads
        Threads for linear algebra.

    Raises
    ------
    InputError
        If there is no such column, or no method is left to fit.
    """
    options = EvaluateSettings(**settings)
    data = open_mudata(multiome)
    labels = class_labels(learn_from(data.obs, task, multiome), task["column"], multiome)
    labelled = np.flatnonzero(labels != "")
    logging.info("%d of %d cells have a label in %s", len(labelled), len(labels), task["column"])
    cells, labels = data.obs.iloc[labelled], labels.iloc[labelled]
    rna, atac = (counts_of(data, name, cells.index) for name in ("rna", "atac"))
    fold_of = assign_folds(cells, labels, group, folds)
    n_folds, parts = fold_of.attrs["n_folds"], []
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        for fold in progress(range(n_folds), n_folds, "baselines", "fold"):
            test = (fold_of == fold).to_numpy()
            found = predict_baselines(rna, atac, labels.to_numpy(), test, options, seeds, cells["sample"].to_numpy())
            held_out = held_out_cells(cells[test], labels[test]).assign(fold=fold)
            for method, seed, predicted, probability in found:
                parts.append(held_out.assign(method=method, seed=seed, predicted=predicted, probability=probability))
    if not parts:
        problem = f"none of {list(options.baselines)} can be fitted"
        raise InputError("evaluate/baselines", problem, "Name another one, or run `make scvi`")
    write_parquet(pd.concat(parts, ignore_index=True), output)


def held_out_cells(cells: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Who the held-out cells are: cell, sample, donor, truth."""
    donor = cells["donor"].astype(str).to_numpy() if "donor" in cells else ""
    named = {"cell": cells.index.astype(str), "sample": cells["sample"].astype(str).to_numpy(), "donor": donor}
    return pd.DataFrame(named | {"truth": labels.to_numpy()})


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            settings=job.params.evaluate,
            task=job.params.task,
            group=job.params.group,
            folds=job.params.folds,
            seeds=job.params.seeds,
            output=job.output.predictions,
            threads=job.threads,
        )
