"""Score what each method makes of few labels."""

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.evaluate.annotation import judge
from regulonformer.evaluate.predictions import read_predictions
from regulonformer.io.store import write_tsv
from regulonformer.log import rule_log

DIFFERENCE = {"value": "difference", "ci_low": "difference_low", "ci_high": "difference_high"}


def main(*, predictions: list[dict], settings: dict, group: str, ours: str, output) -> None:
    """Score the predictions of every number of labels.

    Parameters
    ----------
    predictions
        One dict per file of `learn_from_few`: `path`, `dataset`, `labels_per_class`.
    settings
        Section `evaluate`: bootstrap, confidence, seed are used.
    group
        Column whose values were held out as a whole.
    ours
        Method that the others are compared with.
    output
        TSV to write: method, dataset, labels_per_class, fold (pooled), seed, metric, value, ci_low, ci_high, then, in
        rows with seed `all` of other methods: difference (ours less the method) with its interval, and verdict.

    Raises
    ------
    InputError
        If there are no predictions.
    """
    if not predictions:
        fix = "Give some, for instance [5, 10, 20, 50]"
        raise InputError("learning_curve.labels_per_class", "no number of labels is named", fix)
    options = {key: settings[key] for key in ("bootstrap", "confidence", "seed") if key in settings}
    parts = []
    for file in predictions:
        table = read_predictions([{"path": file["path"], "dataset": file["dataset"]}], group)
        found = judge(table, dataset=file["dataset"], ours=ours, **options)
        scores = found.scores[found.scores["fold"] == "pooled"].drop(columns=["group_low", "group_high"])
        scores.insert(2, "labels_per_class", file["labels_per_class"])
        differences = found.differences.drop(columns=["group_low", "group_high"]).rename(columns=DIFFERENCE)
        keys = ["method", "dataset", "metric", "seed"]
        parts.append(scores.merge(differences.assign(seed="all"), on=keys, how="left"))
    write_tsv(pd.concat(parts, ignore_index=True), output)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        files = zip(job.input.predictions, job.params.datasets, job.params.labels_per_class, strict=True)
        main(
            predictions=[{"path": path, "dataset": dataset, "labels_per_class": n} for path, dataset, n in files],
            settings=job.params.evaluate,
            group=job.params.group,
            ours=job.params.ours,
            output=job.output.learning_curve,
        )
