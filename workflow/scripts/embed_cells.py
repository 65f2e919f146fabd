"""Embed all cells of a corpus with a pretrained model, and lay them out in a UMAP."""

from pathlib import Path

import numpy as np
import torch

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.embed import embed_batches
from regulonformer.errors import InputError
from regulonformer.log import rule_log
from regulonformer.matrices.views import harmony, umap
from regulonformer.pretrained import load_model

BATCH_CELLS = 64


def main(*, folder, shards, cells, vocabulary, seed, output, precision="float32", threads=1, gpu=0):
    """Embed cells.

    Parameters
    ----------
    folder
        Model folder.
    shards, cells, vocabulary
        The corpus; its genes must be those of the model.
    seed
        Seed of the UMAP.
    output
        h5ad to write: what `regulonformer.embed.embed` returns, the UMAP in obsm X_umap and, where there
        are several libraries, the embedding with these aligned by Harmony in obsm X_harmony.
    precision
        As in the section `pretrain`.
    threads, gpu
        CPU threads; number of GPUs granted (0: stay on the CPU).

    Raises
    ------
    InputError
        If corpus and model do not have the same genes in the same order.
    """
    torch.set_num_threads(threads)
    pretrained, corpus = load_model(folder), Corpus(shards, cells, vocabulary)
    if corpus.vocabulary["symbol"].tolist() != pretrained.vocabulary["symbol"].tolist():
        raise InputError(vocabulary, "its genes are not those of the model", "Pretrain on this corpus")
    batches = list(length_sorted(np.arange(len(corpus)), corpus.cells["n_active"], BATCH_CELLS))
    device = None if gpu else "cpu"
    data = embed_batches(pretrained, corpus.cells, stream(corpus, batches), len(batches), device, precision=precision)
    data.obsm["X_umap"] = umap(data.X, seed)
    libraries = corpus.cells["sample"].astype(str)
    if libraries.nunique() > 1:
        data.obsm["X_harmony"] = harmony(data.X, libraries.to_numpy(), seed)
    data.write_h5ad(output)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            folder=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            seed=job.params.seed,
            precision=job.params.precision,
            output=job.output.embedding,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
