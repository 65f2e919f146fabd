"""Train the model and its rivals on a few labelled cells of each class, and predict the cells held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from regulonformer.adapt.cohort import Cohort, held_out_table, make_cohort
from regulonformer.adapt.fit import FinetuneSettings
from regulonformer.adapt.fold import finetune_fold
from regulonformer.adapt.reader import Reader
from regulonformer.errors import InputError
from regulonformer.evaluate.baselines import EvaluateSettings, predict_baselines
from regulonformer.evaluate.few_labels import draw_labelled, split_labelled
from regulonformer.evaluate.predictions import confidence_of
from regulonformer.evaluate.variants import VARIANTS, variant_encoder
from regulonformer.io.multiome import counts_of
from regulonformer.io.store import open_mudata, read_parquet, write_parquet
from regulonformer.log import progress, rule_log
from regulonformer.pretrained import load_model
from regulonformer.task_labels import learn_from

RIVALS = ("logistic", "logistic_raw", "mlp")
TABLE = ["method", "cell", "sample", "donor", "fold", "seed", "truth", "predicted", "probability"]


def main(
    *, multiome, model, shards, cells, vocabulary, regulons, finetune: dict, evaluate: dict, pretrain: dict, task: dict,
    group: str, folds: int, seeds: list[int], labels_per_class: int, ours: str, output, threads=1, gpu=0,
) -> None:  # fmt: skip
    """Predict the held-out cells of every fold with every seed; a seed draws the labelled cells, too.

    All methods get the same labels, those that choose an epoch included. Baselines learn their components from all
    training cells, labelled or not, as pretraining did.

    Parameters
    ----------
    multiome
        Merged h5mu, which baselines read.
    model
        Folder of the pretrained model.
    shards, cells, vocabulary, regulons
        The corpus and the prior.
    finetune, evaluate
        These sections.
    pretrain
        Section `pretrain` with its recipe, for the model that is not pretrained.
    task
        Block of the task.
    group, folds
        Column whose values are held out as a whole (donor or sample), and number of folds.
    seeds
        Seeds.
    labels_per_class
        Labelled cells of each class in the training folds.
    ours
        Name of the model in the table.
    output
        Parquet to write: method, cell, sample, donor, fold, seed, truth, predicted, probability.
    threads, gpu
        CPU threads; number of GPUs granted (0: stay on the CPU).
    """
    torch.set_num_threads(threads)
    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    base = load_model(model)
    reader = Reader(shards, cells, vocabulary, base.vocabulary)
    fresh = variant_encoder("no_pretraining", reader.corpus, read_parquet(regulons), pretrain)
    encoders = {ours: base.model, f"{ours}, {VARIANTS['no_pretraining']}": fresh}
    options = FinetuneSettings(**finetune)
    rivals = replace(EvaluateSettings(**evaluate), baselines=RIVALS)
    learned = learn_from(reader.cells, task, cells)
    counts, parts = _read_counts(multiome, learned.index, cells), []
    runs = [(fold, seed) for fold in range(folds) for seed in seeds]
    with threadpool_limits(threads):
        for fold, seed in progress(runs, len(runs), f"{labels_per_class} labels per class", "fold"):
            cohort = make_cohort(learned, task["column"], group, fold, folds, options.validation_share, seed, cells)
            training = np.sort(np.concatenate([cohort.train, cohort.validation]))
            drawn = draw_labelled(cohort.truth, training, labels_per_class, seed)
            train, validation = split_labelled(drawn, options.validation_share)
            few = replace(cohort, train=train, validation=validation)
            for method, encoder in encoders.items():
                result = finetune_fold(encoder, reader, few, options, seed, device)
                table = held_out_table(learned, few, result.rows, result.probabilities, seed)
                parts.append(table.assign(method=method, probability=confidence_of(table, method))[TABLE])
            for method, predicted, probability in _rivals(counts, cohort, np.concatenate(drawn), rivals, seed):
                parts.append(table.assign(method=method, predicted=predicted, probability=probability)[TABLE])
    write_parquet(pd.concat(parts, ignore_index=True), output)


def _read_counts(multiome, names: pd.Index, cells) -> list:
    """Counts of both modalities, None for one that is missing, with the cells in the order of the corpus."""
    data = open_mudata(multiome)
    unknown = names.difference(data.obs_names)
    if len(unknown):
        raise InputError(multiome, f"no cell {unknown[0]}, which {cells} has", "Build the corpus again")
    return [counts_of(data, name, names) for name in ("rna", "atac")]


def _rivals(counts: list, cohort: Cohort, labelled: np.ndarray, settings: EvaluateSettings, seed: int):
    """Yield method, predicted classes and their probability for the held-out cells, in the order of the corpus."""
    used = np.sort(np.concatenate([cohort.train, cohort.validation, cohort.test]))
    labels = np.where(np.isin(used, labelled), cohort.truth[used], "")
    matrices = [matrix if matrix is None else matrix[used] for matrix in counts]
    for method, _, *found in predict_baselines(*matrices, labels, np.isin(used, cohort.test), settings, [seed]):
        yield method, *found


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            model=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            finetune=job.params.finetune,
            evaluate=job.params.evaluate,
            pretrain=job.params.pretrain,
            task=job.params.task,
            group=job.params.group,
            folds=job.params.folds,
            seeds=job.params.seeds,
            labels_per_class=int(job.wildcards.labels),
            ours=job.params.ours,
            output=job.output.predictions,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
