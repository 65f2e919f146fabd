"""Judge recipes that were trained, and adapted, with several seeds by the same measures, and rank them."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import hold_out, length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.embed import embed_batches
from regulonformer.errors import InputError
from regulonformer.evaluate.ablation import TrueEdges, known_edges
from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.evaluate.recipes import masked_losses, network_scores, tabulate, zero_shot
from regulonformer.evaluate.spaces import components
from regulonformer.io.multiome import counts_of
from regulonformer.io.store import open_mudata, read_json, read_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.matrices.views import harmony
from regulonformer.pretrained import load_model

BATCH_CELLS = 64


def main(
    *, runs: list[dict], multiome, shards, cells, vocabulary, regulons, settings: dict, evaluate: dict, holdout,
    run: str, output, truth_grn=None, gold=None, aliases=None, threads=1,
) -> None:  # fmt: skip
    """Write scores of every recipe and seed, means, differences and mean ranks (tsv).

    Parameters
    ----------
    runs
        One per recipe and seed: recipe, seed, folder of the model, base, the folder of the model that it took up or
        None, and predictions, the files of all folds.
    multiome
        Merged h5mu, for PCA of its RNA.
    shards, cells, vocabulary, regulons
        The corpus and the prior.
    settings
        Section `embedding_metrics`: cells.
    evaluate
        Section `evaluate`.
    holdout
        Libraries that were kept out of the gradient; see `hold_out`.
    run
        Name of the data set in the table.
    output
        TSV to write.
    truth_grn, gold, aliases
        See `known_edges`.
    threads
        CPU threads.

    Raises
    ------
    InputError
        If recipes were adapted to nothing.
    """
    if not all(item["predictions"] for item in runs):
        raise InputError("comparison.task", "there is no classification", "Name a task that recipes are adapted to")
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    corpus, prior = Corpus(shards, cells, vocabulary), read_parquet(regulons)
    known = TrueEdges(known_edges(truth_grn, gold, corpus.vocabulary, aliases), set(prior["source"]), corpus.vocabulary)
    rows, data = [], open_mudata(multiome)
    for seed in sorted({item["seed"] for item in runs}):
        held, judged = np.flatnonzero(hold_out(corpus.cells, holdout, seed)), None
        for item in (item for item in runs if item["seed"] == seed):
            predictions = pd.concat(map(pd.read_parquet, item["predictions"]), ignore_index=True)
            if judged is None:
                judged = _draw(predictions, settings["cells"], seed)
                baselines = _baselines(data, judged, EvaluateSettings(**evaluate), seed)
                rows += [(m, seed, metric, v) for m, found in baselines.items() for metric, v in found.items()]
            name = f"regulonformer ({item['recipe']})"
            found = _judge(item, corpus, held, judged, known, predictions)
            for method, scores in ((name, found[0]), (f"{name}, Harmony", found[1])):
                rows += [(method, seed, metric, value) for metric, value in scores.items()]
                logging.info("%s, seed %d: %s", method, seed, ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))
    single = pd.DataFrame(rows, columns=["method", "seed", "metric", "value"]).astype({"seed": str})
    ours = list(dict.fromkeys(f"regulonformer ({item['recipe']})" for item in runs))
    table = tabulate(single.dropna(subset="value"), ours, evaluate["confidence"])
    write_tsv(table.assign(dataset=f"{run}: recipes", fold="pooled")[[*COLUMNS, "versus"]], output)


def _draw(predictions: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """Cells that are clustered, at most so many: those with a label that were held out once."""
    table = predictions.set_index("cell")
    chosen = np.random.default_rng(seed).permutation(len(table))[:most]
    return table.iloc[np.sort(chosen)]


def _space_scores(space: np.ndarray, judged: pd.DataFrame, seed: int) -> dict[str, dict[str, float]]:
    """Scores of a space, and of the same with libraries aligned."""
    of_cell = [judged[column].astype(str).to_numpy() for column in ("truth", "sample")]
    spaces = [space]
    if len(np.unique(of_cell[1])) > 1:
        spaces.append(harmony(space, of_cell[1], seed))
    return [zero_shot(part, *of_cell, judged["fold"].to_numpy(), seed) for part in spaces]


def _baselines(data, judged: pd.DataFrame, options: EvaluateSettings, seed: int) -> dict[str, dict[str, float]]:
    """Scores of PCA, and of Harmony on it; none where no cell has RNA. A cell without RNA is an empty row."""
    counts = counts_of(data, "rna", judged.index)
    if counts is None:
        return {}
    space = components(counts, None, np.ones(len(judged), bool), options, seed)["PCA(RNA)"]
    return dict(zip(("PCA(RNA)", "Harmony on PCA(RNA)"), _space_scores(space, judged, seed), strict=False))


def _judge(item, corpus, held, judged, known, predictions) -> tuple[dict, dict]:
    """Scores of one trained model, and those of its embedding with libraries aligned."""
    pretrained = load_model(item["folder"])
    rows = corpus.cells.index.get_indexer(judged.index)
    batches = list(length_sorted(rows, corpus.cells["n_active"].to_numpy()[rows], BATCH_CELLS))
    cells = embed_batches(pretrained, corpus.cells, stream(corpus, batches), len(batches), "cpu", progress=False)
    own, *aligned = _space_scores(cells.X[rows], judged, item["seed"])
    scores = masked_losses(pretrained.model, corpus, held, BATCH_CELLS, (item["seed"],)) | own
    scores["adapted_macro_f1"] = float(f1_score(predictions["truth"], predictions["predicted"], average="macro"))
    scores |= network_scores(pretrained.model, pretrained.config["regulons"], corpus, held, BATCH_CELLS, known)
    return scores | _cost(item), *(aligned or [{}])


def _cost(item) -> dict[str, float]:
    """Cost of pretraining, with the seconds of the model that was taken up."""
    record, *bases = (read_json(Path(folder) / "run.json") for folder in (item["folder"], item["base"]) if folder)
    cost = {"memory_gb": "peak_memory_gb", "n_parameters": "n_parameters"}
    seconds = record["wall_seconds"] + sum(base["wall_seconds"] for base in bases)
    return {"seconds": seconds} | {name: record[key] for name, key in cost.items()}


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            runs=[
                {
                    **made,
                    "folder": (folder := Path(model).parent),
                    "base": made["base"] and folder.parents[1] / made["base"] / folder.name,
                    "predictions": [str(files) for files in part],
                }
                for made, model, part in zip(
                    job.params.made,
                    job.input.models,
                    np.array_split(np.array(job.input.predictions, object), len(job.params.made)),
                    strict=True,
                )
            ],
            multiome=job.input.multiome,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            **{name: job.input.get(name) or None for name in ("truth_grn", "gold", "aliases")},
            settings=job.params.embedding_metrics,
            evaluate=job.params.evaluate,
            holdout=job.params.holdout,
            run=job.params.run,
            output=job.output.recipes,
            threads=job.threads,
        )
