"""Encode the windows around every gene: TSSs and elements."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regulonformer.corpus.vocabulary import read_vocabulary
from regulonformer.io.store import read_parquet, write_json, write_tsv
from regulonformer.log import rule_log
from regulonformer.sequence.encoders import load_encoder
from regulonformer.sequence.features import Genome, encode_windows
from regulonformer.sequence.windows import gene_windows


def main(*, encoder, fasta, elements, tss, vocabulary, settings, folder, genes, summary, threads=1):
    """Write windows, their genes and their vectors.

    Parameters
    ----------
    encoder
        Folder of a sequence encoder.
    fasta
        Genome with a .fai beside it.
    elements, tss
        Peaks of each gene, as the corpus lists them, and TSSs of the annotation.
    vocabulary
        Token list.
    settings
        Section `sequence`.
    folder
        Where windows.parquet, pairs.parquet and vectors.npz go.
    genes, summary
        Files to write: number of windows of each gene, and counts.
    threads
        CPU threads.
    """
    torch.set_num_threads(threads)
    reader = load_encoder(encoder, settings["window_bp"])
    tokens = read_vocabulary(vocabulary)
    windows, pairs = gene_windows(read_parquet(elements), read_parquet(tss), reader.window)
    pairs = pairs[pairs["symbol"].isin(tokens["symbol"])]
    used = np.unique(pairs["window"])
    windows = windows.iloc[used].reset_index(drop=True)
    pairs = pairs.assign(window=np.searchsorted(used, pairs["window"])).reset_index(drop=True)
    features = encode_windows(reader, Genome(fasta), windows, pairs)
    features.save(Path(folder))

    known = features.windows["has_bases"].to_numpy()
    read = pairs[known[pairs["window"].to_numpy()]]
    counts = pd.crosstab(read["symbol"], read["kind"]).reindex(index=tokens["symbol"], columns=["tss", "element"])
    counts = counts.fillna(0).astype(int).rename(columns={"tss": "tss_windows", "element": "element_windows"})
    write_tsv(counts.rename_axis(columns=None).reset_index(), genes)
    static = counts.index[counts.sum(axis=1) == 0]
    found = {
        "windows": len(windows),
        "windows_without_sequence": int((~known).sum()),
        "genes": len(tokens),
        "genes_without_sequence": len(static),
        "window_bp": reader.window,
        "width": reader.width,
    }
    logging.info("%s", found)
    if len(static):
        logging.warning("%d genes have no sequence and keep static vectors: %s ...", len(static), ", ".join(static[:5]))
    write_json(summary, found)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            encoder=Path(job.input.encoder).parent,
            fasta=job.input.fasta,
            elements=job.input.elements,
            tss=job.input.tss,
            vocabulary=job.input.vocabulary,
            settings=job.params.sequence,
            folder=Path(job.output.vectors).parent,
            genes=job.output.genes,
            summary=job.output.summary,
            threads=job.threads,
        )
