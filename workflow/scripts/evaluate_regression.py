"""Score predicted numbers on the cells held out, beside simple regressions fitted in the same folds."""

import pandas as pd
from threadpoolctl import threadpool_limits

from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.regression import judge_numbers, predict_baselines
from regulonformer.io.multiome import counts_of
from regulonformer.io.store import read_mudata, read_parquet, write_tsv
from regulonformer.log import progress, rule_log


def main(*, multiome, predictions: list[dict], ours: str, settings: dict, output, threads: int = 1) -> None:
    """Score the model and the baselines on all regressions.

    Parameters
    ----------
    multiome
        Merged h5mu.
    predictions
        One dict per file of the model: `path` (parquet: cell, sample, fold, seed, truth, predicted) and `dataset`.
    ours
        Name of the model, which the others are compared with.
    settings
        Section `evaluate`.
    output
        TSV to write, see `regulonformer.evaluate.regression.judge_numbers`.
    threads
        Threads for linear algebra.
    """
    options = EvaluateSettings(**settings)
    data = read_mudata(multiome)
    table = pd.concat([read_parquet(file["path"]).assign(dataset=file["dataset"], method=ours) for file in predictions])
    scored = []
    with threadpool_limits(threads):
        for dataset, mine in table.groupby("dataset", sort=True):
            # Folds are those of the model, cell by cell.
            part = pd.concat([mine, _baselines(data, mine, options)])
            limits = {"bootstrap": options.bootstrap, "confidence": options.confidence, "seed": options.seed}
            scored.append(judge_numbers(part, ours=ours, dataset=dataset, **limits))
    write_tsv(pd.concat(scored, ignore_index=True), output)


def _baselines(data, ours: pd.DataFrame, options: EvaluateSettings) -> pd.DataFrame:
    """Predictions of all baselines for the cells that the model predicted."""
    cells = ours[["cell", "sample", "fold", "truth"]].drop_duplicates("cell")
    rna, atac = (counts_of(data, name, cells["cell"]) for name in ("rna", "atac"))
    values, parts = cells["truth"].to_numpy(), []
    runs = list(ours[["fold", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    for fold, seed in progress(runs, len(runs), "baselines", "fit"):
        test = (cells["fold"] == fold).to_numpy()
        for method, predicted in predict_baselines(rna, atac, values, test, options, seed).items():
            parts.append(cells[test].assign(method=method, seed=seed, predicted=predicted))
    return pd.concat(parts)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        files = zip(job.input.predictions, job.params.datasets, strict=True)
        main(
            multiome=job.input.multiome,
            predictions=[{"path": path, "dataset": dataset} for path, dataset in files],
            ours=job.params.ours,
            settings=job.params.evaluate,
            output=job.output.regression,
            threads=job.threads,
        )
