"""How fast, how random and in how much memory training reads its cells, against AnnData in backed mode.

    python benchmarks/loader.py [--cells 20000 80000] [--json FILE] [--quick]

Corpora of two sizes are generated, then read in a process of their own each: by the loader that training uses, and
(the smaller one) by AnnData in backed mode, which reads the same batches from an h5ad of the same cells and encodes
them with the same function. Files were just written, so they come from the page cache for both. All readers run on
the same two cores.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

LIBRARIES, LABELS, BATCH_CELLS, BLOCK_CELLS = 20, 10, 64, 1024
NON_ZEROS = {"rna": 2500, "atac": 3500}
WARM_UP, CORES = 20, 2  # batches; cores that all readers share


def block(rng, n_cells: int, n_genes: int, non_zeros: int) -> sp.csr_matrix:
    """Counts with the given number of random genes per cell."""
    drawn = rng.random((n_cells, n_genes), np.float32).argpartition(non_zeros, axis=1)[:, :non_zeros]
    genes = np.sort(drawn.astype(np.int32), axis=1)
    counts = rng.geometric(0.6, genes.size).astype(np.int32)
    return sp.csr_matrix((counts, genes.ravel(), np.arange(n_cells + 1) * non_zeros), shape=(n_cells, n_genes))


def generate(folder: Path, n_cells: int, n_genes: int) -> None:
    """Write a corpus as the rule `build_corpus` does: cells of all libraries, mixed."""
    from regulonformer.corpus.shards import mixed_order, write_counts

    rng, totals = np.random.default_rng(0), []

    def blocks():
        for start in range(0, n_cells, BLOCK_CELLS):
            size = min(BLOCK_CELLS, n_cells - start)
            pair = [block(rng, size, n_genes, count) for count in NON_ZEROS.values()]
            n_shared = pair[0].astype(bool).multiply(pair[1].astype(bool)).getnnz(axis=1)
            totals.append([*(np.asarray(m.sum(axis=1)).ravel() for m in pair), sum(NON_ZEROS.values()) - n_shared])
            yield pair

    write_counts(folder / "shards", blocks(), n_genes, largest=2**16 - 1)
    cell = mixed_order(n_cells)
    table = pd.DataFrame({"sample": cell * LIBRARIES // n_cells, "label": rng.integers(LABELS, size=n_cells)})
    columns = ["n_counts_rna", "n_counts_atac", "n_active"]
    table[columns] = np.concatenate([np.column_stack(part) for part in totals])
    table = table.assign(has_rna=True, has_atac=True).set_axis([f"cell{i}" for i in cell]).rename_axis("cell")
    table.to_parquet(folder / "cells.parquet")
    tokens = pd.DataFrame({"token": range(n_genes), "gene_id": "", "symbol": [f"g{i}" for i in range(n_genes)]})
    tokens.assign(is_tf=False, chrom="", tss="").to_csv(folder / "vocabulary.tsv", sep="\t", index=False)


def write_h5ad(folder: Path) -> None:
    """The counts of a corpus once more, as one h5ad file per modality, in the usual compression."""
    import anndata
    import h5py
    import zarr
    from anndata.io import sparse_dataset, write_elem

    group = zarr.open_group(folder / "shards", mode="r")
    for name in NON_ZEROS:
        source, n_genes = sparse_dataset(group[name]), group[name].attrs["shape"][1]
        obs = pd.read_parquet(folder / "cells.parquet", columns=["sample"]).astype({"sample": str})
        anndata.AnnData(obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])).write_h5ad(
            folder / f"{name}.h5ad"
        )
        with h5py.File(folder / f"{name}.h5ad", "r+") as file:
            options = {"compression": "gzip", "compression_opts": 1, "chunks": (2**16,)}
            write_elem(file, "X", sp.csr_matrix((0, n_genes), dtype=np.int32), dataset_kwargs=options)
            for start in range(0, len(obs), BLOCK_CELLS):
                sparse_dataset(file["X"]).append(sp.csr_matrix(source[start : start + BLOCK_CELLS]))


def read_corpus(folder: Path, n_batches: int) -> dict:
    """Read batches through the loader of training."""
    from regulonformer.corpus.loader import stream
    from regulonformer.corpus.sampler import EpochSampler
    from regulonformer.corpus.shards import Corpus

    corpus = Corpus.open(folder)
    sampler = EpochSampler(np.arange(len(corpus)), corpus.cells["n_active"], BATCH_CELLS, seed=0)
    batches = stream(corpus, map(sampler.batch, range(WARM_UP + n_batches)))
    measured = measure(batches, corpus.cells)
    files = [file for file in (folder / "shards").rglob("*") if file.is_file()]
    disk = sum(file.stat().st_size for file in files) / len(corpus)
    return measured | {
        "mb_per_s": measured["cells_per_s"] * disk / 1e6,
        "disk_kb_per_cell": disk / 1e3,
        "files": len(files),
    }


def read_backed(folder: Path, n_batches: int) -> dict:
    """Read random batches from h5ad files in backed mode."""
    import anndata

    from regulonformer.corpus.encoding import encode

    tables = [anndata.read_h5ad(folder / f"{name}.h5ad", backed="r") for name in NON_ZEROS]
    cells = pd.read_parquet(folder / "cells.parquet")
    library = cells[["n_counts_rna", "n_counts_atac"]].to_numpy(np.float32)
    order = np.random.default_rng(0).permutation(len(cells))

    def batches():
        for start in range(0, (WARM_UP + n_batches) * BATCH_CELLS, BATCH_CELLS):
            rows = np.sort(order.take(range(start, start + BATCH_CELLS), mode="wrap"))
            yield rows, encode(*(sp.csr_matrix(table.X[rows]) for table in tables), library[rows])

    return measure(batches(), cells)


def measure(batches, cells: pd.DataFrame) -> dict:
    """Take all batches; the first ones, in which loops are compiled and files opened, do not count."""
    rows, entries = [], 0
    for number, (chosen, batch) in enumerate(batches):
        if number == WARM_UP:
            started, cpu = time.perf_counter(), time.process_time()
        if number >= WARM_UP:
            rows.append(chosen)
            entries += len(chosen) * sum(NON_ZEROS.values())
        del batch
    seconds, n_cells = time.perf_counter() - started, sum(map(len, rows))
    return {
        "cells_per_s": n_cells / seconds,
        "cells_per_cpu_s": n_cells / (time.process_time() - cpu),
        "nonzeros_per_s": entries / seconds,
        "randomness": min(randomness(rows, cells[column].to_numpy()) for column in ("sample", "label")),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def randomness(batches: list[np.ndarray], group: np.ndarray) -> float:
    """Mean entropy of the composition of a batch, over that of batches in a fully random order."""
    order = np.random.default_rng(1).permutation(np.concatenate(batches))
    at_random = np.split(order, np.cumsum([len(rows) for rows in batches])[:-1])

    def entropy(rows):
        share = np.unique(group[rows], return_counts=True)[1] / len(rows)
        return -(share * np.log(share)).sum()

    return np.mean([entropy(rows) for rows in batches]) / np.mean([entropy(rows) for rows in at_random])


def alone(function, *arguments):
    """Run in a fresh process, whose peak memory is then that of the function."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def compare(sizes: list[int], n_genes: int, n_batches: int, scratch: Path) -> dict:
    """Measure both readers; returns reader -> figures."""
    figures = {}
    for n_cells in sizes:
        folder = scratch / str(n_cells)
        folder.mkdir()
        alone(generate, folder, n_cells, n_genes)
        figures[f"loader, {n_cells} cells"] = alone(read_corpus, folder, n_batches)
    alone(write_h5ad, scratch / str(sizes[0]))
    figures[f"backed AnnData, {sizes[0]} cells"] = alone(read_backed, scratch / str(sizes[0]), max(5, n_batches // 20))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cells", type=int, nargs=2, default=[20_000, 80_000], metavar="N", help="sizes, small and large"
    )
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=1_000, help=f"batches of {BATCH_CELLS} cells to read")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="9,000 and 18,000 cells, 150 batches")
    options = parser.parse_args()
    if options.quick:
        options.cells, options.batches = [9_000, 18_000], 150
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as scratch:
        figures = compare(options.cells, options.genes, options.batches, Path(scratch))
    table = pd.DataFrame(figures).T
    print(table.to_string(float_format=lambda value: f"{value:,.2f}", na_rep=""))
    small, large, backed = figures.values()
    result = {key: large[key] for key in ("cells_per_s", "cells_per_cpu_s", "nonzeros_per_s", "mb_per_s", "randomness")}
    result["memory_growth"] = large["peak_mb"] / small["peak_mb"]
    result["speedup_over_backed"] = small["cells_per_s"] / backed["cells_per_s"]
    for key, value in result.items():
        print(f"{key}: {value:,.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
