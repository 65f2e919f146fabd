"""Fine-tune a variant of the model in the folds and with the seeds of the model itself."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from regulonformer.adapt.cohort import held_out_table, make_cohort
from regulonformer.adapt.fit import FinetuneSettings
from regulonformer.adapt.fold import finetune_fold
from regulonformer.adapt.one_modality import OneModality
from regulonformer.adapt.reader import Reader
from regulonformer.evaluate.variants import OTHER_PRIORS, VARIANTS, variant_encoder
from regulonformer.io.store import read_parquet, write_parquet
from regulonformer.log import progress, rule_log
from regulonformer.pretrained import load_model
from regulonformer.task_labels import learn_from

# What a variant changes of section `finetune`.
CHANGED = {"frozen": {"mode": "frozen"}, "full": {"mode": "full"}, "linear": {"epochs": 0}}


def main(
    *, model, shards, cells, vocabulary, regulons, settings: dict, pretrain: dict, task: dict, group: str, folds: int,
    seeds: list[int], variant: str, recipe: str, output, threads=1, gpu=0,
) -> None:  # fmt: skip
    """Predict the held-out cells of every fold with every seed.

    Parameters
    ----------
    model
        Folder of the pretrained model.
    shards, cells, vocabulary, regulons
        The corpus and the prior.
    settings
        Section `finetune`.
    pretrain
        Section `pretrain` with its recipe, for variants that are pretrained anew or not at all.
    task
        Block of the task.
    group, folds
        Column whose values are held out as a whole (donor or sample), and number of folds.
    seeds
        Seeds of fine-tuning.
    variant
        One of `VARIANTS`.
    recipe
        Name of the recipe in the table.
    output
        Parquet to write: method, cell, sample, donor, fold, seed, truth, predicted, `p:<class>`.
    threads, gpu
        CPU threads; number of GPUs granted (0: stay on the CPU).
    """
    torch.set_num_threads(threads)
    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    base = load_model(model)
    corpus = (shards, cells, vocabulary, base.vocabulary)
    reader = OneModality(variant, *corpus) if variant in ("rna", "atac") else Reader(*corpus)
    encoder = base.model
    if variant in ("no_pretraining", *OTHER_PRIORS):
        encoder = variant_encoder(variant, reader.corpus, read_parquet(regulons), pretrain, device != "cpu")
    options = replace(FinetuneSettings(**settings), **CHANGED.get(variant, {}))
    learned, parts = learn_from(reader.cells, task, cells), []
    runs = [(fold, seed) for seed in seeds for fold in range(folds)]
    for fold, seed in progress(runs, len(runs), VARIANTS[variant], "fold"):
        cohort = make_cohort(learned, task["column"], group, fold, folds, options.validation_share, seed, cells)
        result = finetune_fold(encoder, reader, cohort, options, seed, device)
        parts.append(held_out_table(learned, cohort, result.rows, result.probabilities, seed))
    # A class that a fold has no training cell of has no probability there.
    table = pd.concat(parts, ignore_index=True)
    write_parquet(table.assign(method=f"regulonformer ({recipe}), {VARIANTS[variant]}"), output)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            model=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            settings=job.params.finetune,
            pretrain=job.params.pretrain,
            task=job.params.task,
            group=job.params.group,
            folds=job.params.folds,
            seeds=job.params.seeds,
            variant=job.wildcards.variant,
            recipe=job.params.pretrain["recipe"],
            output=job.output.predictions,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
