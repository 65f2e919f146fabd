"""Predict each held-out fold with simple classifiers: the floor and the rivals of the model."""

import logging

import pandas as pd
from threadpoolctl import threadpool_limits

from regulonformer.errors import InputError
from regulonformer.evaluate.baselines import EvaluateSettings, predict_baselines
from regulonformer.evaluate.splits import assign_folds
from regulonformer.io.store import read_mudata, write_parquet
from regulonformer.log import progress, rule_log


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
        Seeds of the decompositions.
    output
        Parquet to write: method, cell, sample, fold, seed, truth, predicted, probability.
    threads
        Threads for linear algebra.
    """
    options = EvaluateSettings(**settings)
    data = read_mudata(multiome)
    if task["column"] not in data.obs:
        raise InputError(multiome, f"no label column {task['column']!r}", f"Use one of {sorted(data.obs.columns)}")
    labels = data.obs[task["column"]].astype(object).fillna("").astype(str)
    labelled = (labels != "").to_numpy()
    logging.info("%d of %d cells have a label in %s", labelled.sum(), len(labels), task["column"])
    cells, labels = data.obs[labelled], labels[labelled]
    rna = data["rna"][cells.index].X.tocsr()
    atac = data["atac"][cells.index].X.tocsr() if "atac" in data.mod else None
    fold_of = assign_folds(cells, labels, group, folds)
    runs = [(fold, seed) for fold in range(fold_of.attrs["n_folds"]) for seed in seeds]
    parts = []
    with threadpool_limits(threads):
        for fold, seed in progress(runs, len(runs), "baselines", "fit"):
            test = (fold_of == fold).to_numpy()
            predictions = predict_baselines(rna, atac, labels.to_numpy(), test, options, seed)
            for method, (predicted, probability) in predictions.items():
                part = pd.DataFrame(
                    {"method": method, "cell": cells.index[test], "sample": cells["sample"][test].values}
                )
                part = part.assign(fold=fold, seed=seed, truth=labels[test].to_numpy(), predicted=predicted)
                parts.append(part.assign(probability=probability))
    write_parquet(pd.concat(parts, ignore_index=True), output)


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
