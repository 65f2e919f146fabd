"""Train variants of the model that differ in one thing, and compare their loss and the edges that they recover."""

import logging

import numpy as np
import pandas as pd
import torch

from regulonformer.corpus.encoding import encode_cells
from regulonformer.corpus.sampler import hold_out
from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.evaluate.ablation import (
    REFERENCE,
    VARIANTS,
    TrueEdges,
    attention_influence,
    change_model,
    known_edges,
    over_seeds,
    pooling_influence,
    variant_edges,
    variant_settings,
)
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.io.store import read_parquet, write_tsv
from regulonformer.log import rule_log
from regulonformer.objectives import make_objective
from regulonformer.training.loop import Trainer
from regulonformer.training.settings import TrainSettings
from regulonformer.training.start import build_model

# Cells whose attention is averaged, at most.
ATTENTION_CELLS = 500


def main(
    *, shards, cells, vocabulary, regulons, settings: dict, pretrain: dict, confidence: float, run: str, output,
    truth_grn=None, gold=None, aliases=None, threads=1, gpu=0,
):  # fmt: skip
    """Write scores of every variant and seed, their means, and differences to the model as it is (tsv).

    Parameters
    ----------
    shards, cells, vocabulary, regulons
        The corpus and the prior.
    settings
        Section `ablation`: variants, steps, seeds.
    pretrain
        Section `pretrain` with its recipe.
    confidence
        Level of the intervals.
    run
        Name of the data set in the table.
    output
        TSV to write.
    truth_grn, gold
        Known edges: the simulator's truth, or else a network file; without either none are judged.
    aliases
        Table of other names of genes, or None.
    threads, gpu
        CPU threads; number of GPUs granted (0: stay on the CPU).

    Raises
    ------
    InputError
        If no variant is named.
    """
    if not settings["variants"]:
        fix = f"Name some of {', '.join(VARIANTS)}, for instance --config 'ablation={{variants: [prior, shuffled]}}'"
        raise InputError("ablation.variants", "no variant is named", fix)
    torch.set_num_threads(threads)
    corpus, table = Corpus(shards, cells, vocabulary), read_parquet(regulons)
    known = known_edges(truth_grn, gold, corpus.vocabulary, aliases)
    edges = TrueEdges(known, set(table["source"]), corpus.vocabulary)
    # The reference is always there: differences to it are what this is for.
    variants = [name for name in VARIANTS if name in {REFERENCE, *settings["variants"]}]
    encode_cells(corpus, [0])  # compiles the loader, before any clock runs
    rows = []
    for seed in settings["seeds"]:
        for variant in variants:
            scores = _train_and_judge(variant, seed, corpus, table, settings, pretrain, edges, gpu)
            logging.info("%s, seed %d: %s", variant, seed, ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))
            rows += [(variant, str(seed), metric, value) for metric, value in scores.items()]
    columns = ["method", "seed", "metric", "value"]
    single = pd.DataFrame(rows, columns=columns).dropna(subset="value")
    if edges.truth.any():
        rows += [("chance", "all", f"auprc_{kind}", edges.truth.mean()) for kind in ("attention", "pooling")]
    found = pd.concat([over_seeds(single, confidence), pd.DataFrame(rows, columns=columns)])
    found = found.assign(dataset=f"{run}: ablation", fold="pooled")
    write_tsv(found[list(COLUMNS)], output)


def _train_and_judge(variant, seed, corpus, regulons, settings, pretrain, known, gpu) -> dict[str, float]:
    """Scores of one variant with one seed."""
    options = variant_settings(variant, pretrain, settings, seed)
    # All variants and seeds watch the same cells.
    held = hold_out(corpus.cells, pretrain["holdout"], pretrain["seed"])
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)
    edges = variant_edges(variant, regulons, corpus.vocabulary, seed)
    model, tfs = build_model(corpus, train, edges, options)
    change_model(variant, model)
    start = pooling_influence(model)
    objective = make_objective(options["recipe_settings"]["objective"], model.n_genes)
    trainer = Trainer(model, objective, corpus, train, validation, TrainSettings.from_dict(options), gpu=bool(gpu))
    last = [row for row in trainer.run() if row["split"] == "validation"][-1]
    scores = {name: last[name] for name in ("loss_rna", "loss_atac")}
    if known.truth.any():
        chosen = validation[:ATTENTION_CELLS]
        influence = attention_influence(model, corpus, chosen, options["batch_cells"], variant == "dense")
        scores |= {
            "auprc_attention": known.auprc(influence, tfs),
            "auprc_pooling": known.auprc(pooling_influence(model), tfs),
            "auprc_start": known.auprc(start, tfs),
        }
    return scores | {"cells_per_second": trainer.cells_per_second}


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            **{name: job.input.get(name) or None for name in ("truth_grn", "gold", "aliases")},
            settings=job.params.ablation,
            pretrain=job.params.pretrain,
            confidence=job.params.confidence,
            run=job.params.run,
            output=job.output.ablation,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
