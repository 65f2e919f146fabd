"""Score the model and the baselines on the cells held out, all on the same resamples."""

import logging

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.evaluate.annotation import judge
from regulonformer.evaluate.predictions import read_predictions
from regulonformer.evaluate.verdicts import in_words
from regulonformer.io.store import write_json, write_tsv
from regulonformer.log import rule_log


def main(
    *,
    predictions: list[dict],
    settings: dict,
    group: str,
    ours: str,
    output,
    recall,
    reliability,
    differences,
    confusion,
) -> None:
    """Score all methods on all tasks.

    Parameters
    ----------
    predictions
        One dict per file: `path` (parquet: cell, sample, donor, fold, seed, truth, predicted, `p:<class>` or
        `probability`), `dataset`, and `method`, unless a column of the file names it.
    settings
        Section `evaluate`: bootstrap, confidence, seed are used.
    group
        Column whose values were held out as a whole (donor or sample).
    ours
        Method that the others are compared with.
    output, recall, reliability, differences
        TSVs to write, see `regulonformer.evaluate.annotation.Judgement`.
    confusion
        JSON to write: dataset -> method -> {classes, counts}, cells of all seeds, true classes in rows.
    """
    table = read_predictions(predictions, group)
    options = {key: settings[key] for key in ("bootstrap", "confidence", "seed") if key in settings}
    parts, matrices = [], {}
    for dataset, part in table.groupby("dataset", sort=True):
        if ours not in set(part["method"]):
            raise InputError(dataset, f"no predictions of {ours}", "Run finetune_task for this task")
        parts.append(judge(part, dataset=dataset, ours=ours, **options))
        matrices[dataset] = {method: _confusion(cells) for method, cells in part.groupby("method")}
    tables = [pd.concat(rows, ignore_index=True) for rows in zip(*parts, strict=True)]
    for path, rows in zip((output, recall, reliability, differences), tables, strict=True):
        write_tsv(rows, path)
    for sentence in in_words(tables[0], tables[3], ours):
        logging.info(sentence)
    write_json(confusion, matrices)


def _confusion(cells: pd.DataFrame) -> dict:
    """Classes and counts, true classes in rows."""
    counts = pd.crosstab(cells["truth"], cells["predicted"])
    classes = sorted(set(counts.index) | set(counts.columns))
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    return {"classes": classes, "counts": counts.to_numpy().tolist()}


def _named(paths, datasets, **more) -> list[dict]:
    return [{"path": path, "dataset": dataset, **more} for path, dataset in zip(paths, datasets, strict=True)]


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            predictions=[
                *_named(job.input.predictions, job.params.datasets, method=job.params.ours),
                *_named(job.input.baselines, job.params.baseline_datasets),
                *_named(job.input.variants, job.params.variant_datasets),
            ],
            settings=job.params.evaluate,
            group=job.params.group,
            ours=job.params.ours,
            output=job.output.annotation,
            recall=job.output.recall,
            reliability=job.output.reliability,
            differences=job.output.differences,
            confusion=job.output.confusion,
        )
