"""Write the vectors of genes: static, and in every cell state."""

from pathlib import Path

import numpy as np
import torch

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.gene_vectors import contextual_vectors, regulon_vectors, vector_table
from regulonformer.io.store import write_parquet
from regulonformer.log import rule_log
from regulonformer.pretrained import load_model

BATCH_CELLS = 64
EVERYTHING = "all cells"


def main(*, folder, shards, cells, vocabulary, column: str | None, output, threads=1) -> None:
    """Write the table of vectors.

    Parameters
    ----------
    folder
        Model folder.
    shards, cells, vocabulary
        The corpus; its genes must be those of the model.
    column
        Column of cell states; cells without one are left out. None takes all cells as one state.
    output
        Parquet to write: see `regulonformer.gene_vectors.vector_table`.
    threads
        CPU threads.

    Raises
    ------
    InputError
        If corpus and model do not have the same genes in the same order, or there is no such column.
    """
    torch.set_num_threads(threads)
    pretrained, corpus = load_model(folder), Corpus(shards, cells, vocabulary)
    symbols = corpus.vocabulary["symbol"].tolist()
    if symbols != pretrained.vocabulary["symbol"].tolist():
        raise InputError(vocabulary, "its genes are not those of the model", "Pretrain on this corpus")
    states, codes = _states(corpus.cells, column, cells)
    rows = np.flatnonzero(codes >= 0)
    batches = list(length_sorted(rows, corpus.cells["n_active"].to_numpy()[rows], BATCH_CELLS))
    found = contextual_vectors(pretrained.model, stream(corpus, batches), len(batches), codes, len(states))
    static_ND = pretrained.model.embedding.gene_vectors.weight.detach().numpy()
    write_parquet(vector_table(symbols, static_ND, regulon_vectors(pretrained.model), states, found), output)


def _states(cells, column: str | None, where) -> tuple[list[str], np.ndarray]:
    """Names of the states, and the code of each cell; -1 where it has none."""
    if column is None:
        return [EVERYTHING], np.zeros(len(cells), int)
    if column not in cells:
        raise InputError(where, f"no column {column!r}", f"Use one of {sorted(cells.columns)}")
    names = cells[column].astype(object).fillna("").astype(str).to_numpy()
    states = sorted(set(names) - {""})
    return states, np.array([states.index(name) if name else -1 for name in names])


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            folder=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            column=job.params.column,
            output=job.output.vectors,
            threads=job.threads,
        )
