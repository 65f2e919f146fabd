"""Adapt the pretrained model to a task with LoRA on all folds but one, and predict the one held out."""

import time
from pathlib import Path

import pandas as pd
import torch

from regulonformer.adapt.cohort import held_out_numbers, held_out_table, make_cohort, make_regression_cohort
from regulonformer.adapt.fit import FinetuneSettings
from regulonformer.adapt.fold import finetune_fold
from regulonformer.adapt.lora import save_adapter
from regulonformer.adapt.reader import Reader
from regulonformer.adapt.regression import regress_fold
from regulonformer.io.store import write_parquet, write_run_record, write_tsv
from regulonformer.log import rule_log
from regulonformer.pretrained import load_model
from regulonformer.task_labels import learn_from

# Of each kind of task: which cells, how the model is adapted, and the table of held-out cells.
KINDS = {
    "classification": (make_cohort, finetune_fold, held_out_table),
    "regression": (make_regression_cohort, regress_fold, held_out_numbers),
}


def main(
    *,
    model,
    shards,
    cells,
    vocabulary,
    settings,
    task,
    group,
    folds,
    fold,
    seed,
    adapter,
    predictions,
    metrics,
    run,
    threads=1,
    gpu=0,
) -> None:
    """Fine-tune one fold with one seed.

    Parameters
    ----------
    model
        Folder of the pretrained model.
    shards, cells, vocabulary
        The corpus.
    settings
        Section `finetune`.
    task
        Block of the task: `column` holds the labels, `type` is classification or regression, `train_on` may choose
        the cells that it learns from.
    group, folds
        Column whose values are held out as a whole (donor or sample), and number of folds.
    fold, seed
        Fold held out and seed.
    adapter
        Folder to write: peft adapter and task.json.
    predictions, metrics, run
        Parquet of held-out cells, TSV of losses and JSON record to write.
    threads, gpu
        Threads, and whether to use a GPU.
    """
    started, options = time.time(), FinetuneSettings(**settings)
    torch.set_num_threads(threads)
    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    base = load_model(model)
    reader = Reader(shards, cells, vocabulary, base.vocabulary)
    column = task["column"]
    make, adapt, tabulate = KINDS[task.get("type", "classification")]
    learned = learn_from(reader.cells, task, cells)
    cohort = make(learned, column, group, fold, folds, options.validation_share, seed, cells)
    adapted, rows, predicted, losses, trained = adapt(base.model, reader, cohort, options, seed, device)
    write_parquet(tabulate(learned, cohort, rows, predicted, seed), predictions)
    write_tsv(pd.DataFrame(losses), metrics)
    about = {"column": column, "classes": cohort.classes, "base_hash": base.hash, "seed": seed}
    save_adapter(adapted, adapter, about | trained | cohort.summary)
    inputs = [Path(model) / "model.safetensors", cells, vocabulary]
    write_run_record(run, config={"finetune": settings, "task": task}, seed=seed, inputs=inputs, started=started)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            model=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            settings=job.params.finetune,
            task=job.params.task,
            group=job.params.group,
            folds=job.params.folds,
            fold=int(job.wildcards.fold),
            seed=int(job.wildcards.seed),
            adapter=Path(job.output.adapter).parent,
            predictions=job.output.predictions,
            metrics=job.output.metrics,
            run=job.output.run,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
