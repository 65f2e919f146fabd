"""From fragments to the training corpus: time and peak memory of every step, for many libraries.

    python benchmarks/atlas.py [--cells 100000] [--libraries 20] [--json FILE] [--quick]

Libraries of cells of five types are generated (about 1,000 fragments and 1,000 RNA counts per cell, 50,000 peaks,
15,000 genes) and go through the scripts of the workflow: ingest and count (each library), merge, corpus. Regulons and
links are drawn at random, since it is not they that are measured. Doublet scoring and the limits of ingest (MADs, TSS
enrichment, nucleosome signal) are off, so that all generated cells are kept: their time is not in it.
Every job runs in a fresh process, as in the workflow, on the same two cores; `minutes` is the sum of all jobs, one
after the other, without the generation of the libraries.
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

CHROMOSOMES, PEAK_SPACING, PEAK_WIDTH, MARGIN, TYPES = 20, 5_000, 501, 10_000, 5
FRAGMENTS, UMIS, IN_PEAKS, THREADS = 1_000, 1_000, 0.7, 2
N_TFS, TARGETS, LINKS = 100, 50, 20_000
INGEST = {"doublets": False, "n_mads": None, "min_tss_enrichment": None, "max_nucleosome_signal": None}


def generate_reference(folder: Path, n_peaks: int, n_genes: int) -> None:
    """Peaks, genes with a promoter in one of them, and random regulons and links."""
    rng = np.random.default_rng(0)
    peaks, place = peak_table(n_peaks), np.sort(rng.choice(n_peaks, n_genes, replace=False))
    peaks.to_csv(folder / "peaks.bed", sep="\t", header=False, index=False)
    start = peaks["start"].to_numpy()[place]
    genes = peaks.iloc[place].assign(start=start, end=start + 2_000, symbol=gene_names(n_genes), score=0, strand="+")
    genes.to_csv(folder / "genes.bed", sep="\t", header=False, index=False)
    pairs = {"source": np.repeat(genes["symbol"].to_numpy()[:N_TFS], TARGETS), "cre": "", "score": 0.5}
    pairs["target"] = rng.choice(genes["symbol"], N_TFS * TARGETS)
    pd.DataFrame(pairs).to_parquet(folder / "regulons.parquet")
    row = rng.integers(n_peaks, size=LINKS)
    names = (peaks["chrom"] + "-" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)).to_numpy()
    links = {
        "peak": names[row],
        "gene": rng.choice(genes["symbol"], LINKS),
        "correlation": 0.5,
        "score": rng.random(LINKS),
    }
    pd.DataFrame(links).to_parquet(folder / "links.parquet")


def peak_table(n_peaks: int) -> pd.DataFrame:
    """Peaks of one width, evenly spread over the chromosomes."""
    chrom, slot = np.divmod(np.arange(n_peaks), -(-n_peaks // CHROMOSOMES))
    start = MARGIN + slot * PEAK_SPACING
    return pd.DataFrame(
        {"chrom": [f"chr{number + 1:02d}" for number in chrom], "start": start, "end": start + PEAK_WIDTH}
    )


def gene_names(n_genes: int) -> list[str]:
    return [f"Gene{number}" for number in range(n_genes)]


def generate_library(folder: Path, number: int, n_cells: int, n_peaks: int, n_genes: int) -> None:
    """Fragments (sorted, bgzip, tabix) and RNA counts (h5ad) of one library."""
    import anndata
    import pyarrow as pa
    import pysam
    from pyarrow import csv

    rng, profile = np.random.default_rng([1, number]), np.random.default_rng(2)
    open_peaks, expressed = (profile.lognormal(0, 1.5, (TYPES, n)).cumsum(axis=1) for n in (n_peaks, n_genes))
    types = rng.integers(TYPES, size=n_cells)
    barcodes = np.array([f"{''.join('ACGT'[cell // 4**k % 4] for k in range(12))}-1" for cell in range(n_cells)])

    def draw(totals, n):
        """Cell and feature of each of about n draws per cell."""
        cell = np.repeat(np.arange(n_cells), rng.poisson(n * rng.lognormal(0, 0.3, n_cells)))
        place = rng.random(len(cell)) * totals[types[cell], -1]
        feature = np.empty(len(cell), np.int64)
        for kind in range(TYPES):
            mine = types[cell] == kind
            feature[mine] = np.searchsorted(totals[kind], place[mine])
        return cell, feature

    cell, gene = draw(expressed, UMIS)
    counts = sp.coo_matrix((np.ones(len(cell), np.int32), (cell, gene)), shape=(n_cells, n_genes)).tocsr()
    obs, var = pd.DataFrame(index=barcodes), pd.DataFrame(index=gene_names(n_genes))
    anndata.AnnData(counts, obs=obs, var=var).write_h5ad(folder / f"{number}.h5ad")

    peaks = peak_table(n_peaks)
    cell, peak = draw(open_peaks, FRAGMENTS)
    inside = rng.random(len(cell)) < IN_PEAKS
    offset = np.where(inside, rng.integers(PEAK_WIDTH, size=len(cell)), rng.integers(PEAK_SPACING, size=len(cell)))
    chrom, start = peaks["chrom"].to_numpy()[peak], peaks["start"].to_numpy()[peak] + offset
    order = np.argsort(peak * 2 * PEAK_SPACING + offset, kind="stable")
    # Fragments of neighbouring peaks do not overlap in start, so that the order by peak and offset is that by position.
    columns = {"chrom": chrom[order], "start": start[order], "end": (start + rng.integers(40, 300, len(cell)))[order]}
    columns |= {"barcode": barcodes[cell[order]], "reads": np.ones(len(cell), np.int8)}
    plain = folder / f"{number}.tsv"
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    csv.write_csv(pa.table({name: pa.array(values) for name, values in columns.items()}), plain, options)
    pysam.tabix_index(str(plain), preset="bed", force=True)  # compresses, and removes the plain file


def annotate(folder: Path) -> None:
    import read_annotation

    files = {name: folder / f"{name}.parquet" for name in ("genes", "tss")}
    read_annotation.main(annotation=folder / "genes.bed", summary=folder / "annotation.json", **files)


def ingest(folder: Path, number: int) -> None:
    import ingest_sample

    ingest_sample.main(
        matrix=folder / f"{number}.h5ad",
        fragments=folder / f"{number}.tsv.gz",
        peaks=folder / "peaks.bed",
        tss=folder / "tss.parquet",
        sample={"sample": f"library{number}"},
        settings=INGEST,
        threads=THREADS,
        output_mudata=folder / f"ingested{number}.h5mu",
        output_cells=folder / f"{number}.cells.parquet",
        output_qc=folder / f"{number}.qc.json",
    )


def count(folder: Path, number: int) -> None:
    import count_sample

    count_sample.main(
        ingested=folder / f"ingested{number}.h5mu",
        peaks=folder / "peaks.bed",
        fragments=folder / f"{number}.tsv.gz",
        settings={},
        threads=THREADS,
        output=folder / f"counted{number}.h5mu",
        output_summary=folder / f"counted{number}.json",
    )


def merge(folder: Path, n_libraries: int) -> None:
    import merge_samples

    merge_samples.main(
        counts=[folder / f"counted{number}.h5mu" for number in range(n_libraries)],
        genes=folder / "genes.parquet",
        tss=folder / "tss.parquet",
        settings={},
        output=folder / "multiome.h5mu",
        output_summary=folder / "merge.json",
    )


def corpus(folder: Path) -> None:
    import build_corpus

    outputs = {"cells": "parquet", "elements": "parquet", "summary": "json"}
    outputs |= dict.fromkeys(("vocabulary", "genes", "unmapped"), "tsv")
    build_corpus.main(
        multiome=folder / "multiome.h5mu",
        regulons=folder / "regulons.parquet",
        links=folder / "links.parquet",
        settings={"accessibility": "linked", "min_link_score": 0.5},
        shards=folder / "shards",
        **{name: folder / f"corpus_{name}.{suffix}" for name, suffix in outputs.items()},
    )


def measured(function, *arguments) -> dict:
    """Run a job; its time, and the peak memory of its process."""
    started = time.perf_counter()
    function(*arguments)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time(),
        "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def alone(function, *arguments) -> dict:
    """Run a job in a fresh process, whose peak memory is then that of the job."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, function, *arguments).result()


def run(folder: Path, n_cells: int, n_libraries: int, n_peaks: int, n_genes: int) -> tuple[pd.DataFrame, int]:
    """Generate and process all libraries; steps with their time and memory, and the number of cells in the corpus."""
    jobs = [("generate", generate_reference, folder, n_peaks, n_genes), ("annotation", annotate, folder)]
    for number in range(n_libraries):
        jobs.append(("generate", generate_library, folder, number, n_cells // n_libraries, n_peaks, n_genes))
        jobs += [("ingest", ingest, folder, number), ("count", count, folder, number)]
    jobs += [("merge", merge, folder, n_libraries), ("corpus", corpus, folder)]
    rows = []
    for step, *job in jobs:
        rows.append({"step": step} | alone(*job))
        print(f"{step}: {rows[-1]['seconds']:.1f} s, {rows[-1]['gb']:.2f} GB", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows).groupby("step", sort=False)
    table = table.agg(
        jobs=("gb", "size"), seconds=("seconds", "sum"), cpu_seconds=("cpu_seconds", "sum"), peak_gb=("gb", "max")
    )
    return table, len(pd.read_parquet(folder / "corpus_cells.parquet", columns=["sample"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--libraries", type=int, default=20)
    parser.add_argument("--peaks", type=int, default=50_000)
    parser.add_argument("--genes", type=int, default=15_000)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="5,000 cells in 5 libraries")
    options = parser.parse_args()
    if options.quick:
        options.cells, options.libraries = 5_000, 5
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    with tempfile.TemporaryDirectory() as scratch:
        table, n_cells = run(Path(scratch), options.cells, options.libraries, options.peaks, options.genes)
    print(table.to_string(float_format=lambda value: f"{value:.2f}"))
    ours = table.drop(index="generate")
    result = {"peak_memory_gb": ours["peak_gb"].max(), "minutes": ours["seconds"].sum() / 60, "cells": n_cells}
    for key, value in result.items():
        print(f"{key}: {value:,.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
