"""Write all cells as model input: counts over a vocabulary of genes with the TFs first, in shards."""

import logging
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from regulonformer.corpus.shards import write_shard
from regulonformer.corpus.vocabulary import build_vocabulary
from regulonformer.io.store import read_mudata, read_parquet, write_parquet, write_tsv
from regulonformer.log import rule_log


def main(*, multiome, regulons, tfs, settings, shards, cells, vocabulary):
    """Build the corpus.

    Parameters
    ----------
    multiome
        h5mu with `rna` and, where measured, `accessibility` (same genes).
    regulons
        Regulon table; its sources are TFs.
    tfs
        Text file of further TF symbols, one per line, or empty.
    settings
        Section `corpus`: shard_cells.
    shards, cells, vocabulary
        Folder and files to write.
    """
    data = read_mudata(multiome)
    rna = data.mod["rna"]
    known_tfs = set(read_parquet(regulons)["source"].astype(str))
    if tfs:
        known_tfs |= {line.strip() for line in Path(tfs).read_text().splitlines() if line.strip()}
    tokens = build_vocabulary(rna.var, known_tfs)
    write_tsv(tokens, vocabulary)

    table = data.obs.copy()
    table.index = table.index.astype(str)
    table.index.name = "cell"
    counts = {}
    for name, modality in (("rna", "rna"), ("atac", "accessibility")):
        counts[name], table[f"has_{name}"] = in_order(data.mod.get(modality), table.index, tokens["symbol"])
        table[f"n_counts_{name}"] = np.asarray(counts[name].sum(1)).ravel()
    table["n_active"] = ((counts["rna"] != 0) + (counts["atac"] != 0)).getnnz(axis=1)

    shard = np.arange(len(table)) // settings["shard_cells"]
    table["shard"] = [f"shard_{number:04d}.npz" for number in shard]
    table["row"] = np.arange(len(table)) % settings["shard_cells"]
    Path(shards).mkdir(parents=True, exist_ok=True)
    for name, rows in table.groupby("shard").indices.items():
        write_shard(Path(shards) / name, counts["rna"][rows], counts["atac"][rows])
    write_parquet(table, cells)
    logging.info("%d cells, %d genes, %d of them TFs", len(table), len(tokens), tokens["is_tf"].sum())


def in_order(modality, cells, symbols):
    """Counts of one modality over all cells and genes, and which cells were measured in it."""
    if modality is None:
        return sp.csr_matrix((len(cells), len(symbols)), dtype=np.int32), np.zeros(len(cells), bool)
    genes = modality.var_names.get_indexer(symbols)
    rows = modality.obs_names.astype(str).get_indexer(cells)
    matrix = sp.csr_matrix(modality.X)[:, genes]
    empty = sp.csr_matrix((1, len(symbols)), dtype=matrix.dtype)
    # A cell that was not measured reads the empty row at the end.
    return sp.vstack([matrix, empty], format="csr")[rows], rows >= 0


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            multiome=job.input.multiome,
            regulons=job.input.regulons,
            tfs=job.input.get("tfs"),
            settings=job.params.corpus,
            shards=job.output.shards,
            cells=job.output.cells,
            vocabulary=job.output.vocabulary,
        )
