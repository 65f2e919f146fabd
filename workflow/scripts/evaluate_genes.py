"""Judge vectors of genes on gene tasks, beside expression statistics, PCA loadings and random vectors."""

import json
import logging

import numpy as np
import pandas as pd
import torch

from regulonformer.corpus.profile import LOADING_CELLS, principal_components
from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.evaluate.gene_tasks import MIN_ROWS, read_task, without_pairs
from regulonformer.evaluate.genes import (
    as_regulators,
    expression_statistics,
    judge,
    prior_vectors,
)
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.gene_names import GeneNames
from regulonformer.gene_vectors import CONTEXTUAL, REGULON, STATIC, read_vectors
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.store import read_parquet, write_tsv
from regulonformer.log import rule_log

MIN_CELLS = 10  # of a state that show a gene, for a vector of it
NOT_IN_PRIOR = "not in the prior"


def main(
    *, vectors, shards, cells, vocabulary, regulons, tasks: dict, settings: dict, recipe: str, run: str, output,
    aliases=None, threads=1,
) -> None:  # fmt: skip
    """Write scores of all methods on all tasks (tsv).

    Parameters
    ----------
    vectors
        Parquet of `embed_genes`.
    shards, cells, vocabulary
        The corpus.
    regulons
        The prior. Tasks of pairs are also judged on the pairs that it does not have.
    tasks
        Name to file.
    settings
        seeds, bootstrap, confidence.
    recipe, run
        Names of the model and of the data set in the table.
    output
        TSV to write.
    aliases
        Table of other names of genes, or None.
    threads
        CPU threads.

    Raises
    ------
    InputError
        If no task is named.
    """
    if not tasks:
        fix = "Name one, for instance --config 'gene_tasks={trrust: {file: trrust_rawdata.mouse.tsv}}'"
        raise InputError("gene_tasks", "no gene task is named", fix)
    torch.set_num_threads(threads)
    corpus = Corpus(shards, cells, vocabulary)
    genes = corpus.vocabulary
    names = GeneNames(genes["symbol"], genes["gene_id"], read_aliases(aliases) if aliases else None)
    edges = read_parquet(regulons)
    methods = _methods(corpus, read_parquet(vectors), edges, recipe)
    prior = _pairs(edges, names)
    parts = []
    for name, file in tasks.items():
        task = read_task(file, names)
        versions = {name: task}
        if task.genes.shape[1] == 2:
            versions[f"{name}, {NOT_IN_PRIOR}"] = without_pairs(task, prior)
        for version, rows in versions.items():
            if rows.fewest < MIN_ROWS:
                logging.warning("%s: left out, only %d rows of a label are left", version, rows.fewest)
                continue
            table, counts = judge(
                rows, methods, np.concatenate([task.genes, prior]) if len(versions) > 1 else prior, settings
            )
            logging.info("%s: %s", version, json.dumps(counts))
            parts.append(table.assign(dataset=f"{run}: {version}", fold="pooled", n_tested=counts["tested"]))
    write_tsv(pd.concat(parts)[[*COLUMNS, "n_tested"]], output)


def _pairs(regulons: pd.DataFrame, names: GeneNames) -> np.ndarray:
    """Edges of the prior as row numbers, pairs x 2."""
    edges = regulons[["source", "target"]].drop_duplicates()
    rows = np.stack([names.find(edges[column])["row"].loc[edges[column]].to_numpy() for column in edges], axis=1)
    return rows[(rows >= 0).all(1)]


def _methods(corpus, table: pd.DataFrame, regulons: pd.DataFrame, recipe: str) -> dict:
    """Vectors of every method as functions of the seed; ours first."""
    symbols = corpus.vocabulary["symbol"]
    static_ND = read_vectors(table, STATIC, symbols)[""]
    regulon_ND = read_vectors(table, REGULON, symbols).get("", np.full_like(static_ND, np.nan))
    ours, pca = f"regulonformer ({recipe})", _pca_loadings(corpus, static_ND.shape[1])
    first, first_ND = next(iter(pca.items()))
    found = {
        ours: as_regulators(static_ND, regulon_ND),
        f"{ours}, static": static_ND,
        **_contextual(table, symbols, f"{ours}, contextual"),
        **pca,
        f"{first}, prior": as_regulators(first_ND, prior_vectors(first_ND, regulons, symbols)),
        "expression statistics": expression_statistics(corpus),
    }
    methods = {name: lambda seed, values=values: values for name, values in found.items()}
    shape = found[ours].shape
    return methods | {"random vectors": lambda seed: np.random.default_rng(seed).standard_normal(shape)}


def _pca_loadings(corpus, width: int) -> dict[str, np.ndarray]:
    """Loadings of genes on the principal components of each modality that is there: of the first one, then of both."""
    chosen = np.arange(0, len(corpus), -(-len(corpus) // LOADING_CELLS))
    loadings = {
        title: principal_components(counts[measured], corpus.library[chosen, m][measured], width).loadings
        for m, (title, counts) in enumerate(zip(("RNA", "accessibility"), corpus.rows(chosen), strict=True))
        if (measured := ~corpus.missing[chosen, m]).any()
    }
    first = next(iter(loadings))
    found = {f"PCA loadings ({first})": loadings[first]}
    return found | {f"PCA loadings ({' and '.join(loadings)})": np.hstack(list(loadings.values()))}


def _contextual(table: pd.DataFrame, symbols, name: str) -> dict[str, np.ndarray]:
    """Mean over states of the contextual vectors, under a name; nothing where no state shows genes often enough."""
    states = list(read_vectors(table, CONTEXTUAL, symbols, MIN_CELLS).values())
    if not states:
        logging.warning("%s: left out, no state has a gene that %d cells show", name, MIN_CELLS)
        return {}
    mean_ND = np.ma.masked_invalid(np.stack(states)).mean(0)
    # A gene that no state shows often enough is given the mean vector: nothing is known of it.
    return {name: mean_ND.filled(mean_ND.mean(0))}


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            vectors=job.input.vectors,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            aliases=job.input.get("aliases") or None,
            tasks=dict(zip(job.params.tasks, job.input.tasks, strict=True)),
            settings=job.params.settings,
            recipe=job.params.recipe,
            run=job.params.run,
            output=job.output.genes,
            threads=job.threads,
        )
