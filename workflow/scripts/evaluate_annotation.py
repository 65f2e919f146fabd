"""Score the model and the baselines on the cells held out, in one table."""

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.metrics import score_predictions
from regulonformer.io.store import read_parquet, write_json, write_tsv
from regulonformer.log import progress, rule_log


def main(*, predictions: list[dict], baselines: list[dict], settings: dict, output, confusion=None) -> None:
    """Score all methods on all tasks.

    Parameters
    ----------
    predictions
        One dict per fold and seed of the model: `path` (predictions.parquet), `dataset`, `recipe`.
    baselines
        One dict per task: `path` (parquet of `run_baselines`), `dataset`.
    settings
        Section `evaluate`.
    output
        Tidy TSV to write: method, dataset, fold, seed, metric, value, ci_low, ci_high.
    confusion
        JSON to write, or None: dataset -> method -> {classes, counts}, cells of all seeds, true classes in rows.
    """
    options = EvaluateSettings(**settings)
    columns = ["method", "dataset", "cell", "sample", "fold", "seed", "truth", "predicted"]
    parts = [
        read_parquet(item["path"]).assign(method=f"regulonformer ({item['recipe']})", dataset=item["dataset"])[columns]
        for item in predictions
    ]
    parts += [read_parquet(item["path"]).assign(dataset=item["dataset"])[columns] for item in baselines]
    table = pd.concat(parts, ignore_index=True)
    _check_same_cells(table)
    methods = list(table.groupby(["dataset", "method"], sort=True))
    rows, matrices = [], {}
    for (dataset, method), part in progress(methods, len(methods), "scores", "method"):
        rows.append(
            score_predictions(
                part,
                dataset=dataset,
                bootstrap=options.bootstrap,
                confidence=options.confidence,
                seed=options.seed,
            )
        )
        counts = pd.crosstab(part["truth"], part["predicted"])
        classes = sorted(set(counts.index) | set(counts.columns))
        counts = counts.reindex(index=classes, columns=classes, fill_value=0)
        matrices.setdefault(dataset, {})[method] = {"classes": classes, "counts": counts.to_numpy().tolist()}
    write_tsv(pd.concat(rows, ignore_index=True), output)
    if confusion:
        write_json(confusion, matrices)


def _check_same_cells(table: pd.DataFrame) -> None:
    """Refuse to compare methods that were judged on different cells or folds."""
    for dataset, part in table.groupby("dataset"):
        judged = {
            method: frozenset(cells[["cell", "fold", "seed", "truth"]].itertuples(index=False, name=None))
            for method, cells in part.groupby("method")
        }
        first, *others = judged
        for other in others:
            differ = len(judged[first] ^ judged[other])
            if differ:
                problem = f"{first} and {other} were judged on different cells, folds or seeds ({differ} differ)"
                raise InputError(dataset, problem, "Run finetune_task and run_baselines on the same cells")


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            predictions=[
                {"path": path, "dataset": dataset, "recipe": recipe}
                for path, dataset, recipe in zip(
                    job.input.predictions, job.params.datasets, job.params.recipes, strict=True
                )
            ],
            baselines=[
                {"path": path, "dataset": dataset}
                for path, dataset in zip(job.input.baselines, job.params.baseline_datasets, strict=True)
            ],
            settings=job.params.evaluate,
            output=job.output.annotation,
            confusion=job.output.get("confusion"),
        )
