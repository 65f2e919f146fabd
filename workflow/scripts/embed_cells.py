"""Embed all cells of a corpus with a pretrained model, and lay them out in a UMAP."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.log import progress, rule_log
from regulonformer.matrices.views import umap
from regulonformer.training.checkpoint import load_model

BATCH_CELLS = 64


def main(*, folder, shards, cells, vocabulary, seed, output, threads=1, gpu=0):
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
        h5ad to write: X cell embedding, obsm X_umap and X_regulons (attention of the cell over regulon slots, mean of
        the regulon layers), uns regulons, gene_vectors (genes x width) and genes.
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
    model = pretrained.model.to("cuda" if gpu and torch.cuda.is_available() else "cpu")
    embedding, attention = embed(model, corpus)

    data = ad.AnnData(embedding, obs=corpus.cells)
    data.var_names = pd.Index([f"dimension_{number}" for number in range(embedding.shape[1])])
    data.obsm["X_regulons"] = attention
    data.uns["regulons"] = np.array(pretrained.config["regulons"], dtype=object)
    data.uns["gene_vectors"] = model.embedding.gene_vectors.weight.detach().cpu().numpy()
    data.uns["genes"] = pretrained.vocabulary["symbol"].to_numpy(dtype=object)
    data.obsm["X_umap"] = umap(embedding, seed)
    data.write_h5ad(output)


@torch.no_grad()
def embed(model, corpus):
    """Embedding (cells x width) and attention over regulons (cells x regulons), in the order of the corpus."""
    regulon_layers = [number for number, kind in enumerate(model.config.layers) if kind == "regulon"]
    embedding = np.zeros((len(corpus), model.config.width), np.float32)
    attention = np.zeros((len(corpus), len(model.tf_S) if regulon_layers else 0), np.float32)
    batches = list(length_sorted(np.arange(len(corpus)), corpus.cells["n_active"], BATCH_CELLS))
    for rows, batch in progress(stream(corpus, batches), len(batches), "embedding", unit="batch"):
        encoded = model(batch.to(model.cell_token.device), attention=True)
        embedding[rows] = encoded.cell_BD.cpu().numpy()
        if regulon_layers:
            attention[rows] = torch.stack([encoded.attention[layer] for layer in regulon_layers]).mean(0).cpu().numpy()
    return embedding, attention


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            folder=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            seed=job.params.seed,
            output=job.output.embedding,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
