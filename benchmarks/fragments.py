"""Fragments to a cell x peak matrix with quality metrics: throughput and memory, against SnapATAC2.

    python benchmarks/fragments.py [--fragments 5000000] [--json FILE] [--quick]

A library is generated (sorted, bgzip, tabix). Ours reads it once and both counts and measures (TSS enrichment, FRiP,
nucleosome signal, duplication, blacklist, overlap sites); SnapATAC2 imports and counts. They take turns, each in a
fresh process on the same two CPUs, and the better of their runs counts. Time is that of the calls, without the start
of Python; for ours it includes loading the compiled loops. Ours then reads a library of four times the fragments.
`make peers` sets up SnapATAC2.
"""

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow/scripts"))

THREADS, GROWTH = 2, 4
# Lengths of the human chromosomes, in Mb.
LENGTHS = [249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156]
SIZES = {f"chr{name}": length * 1_000_000 for name, length in zip([*range(1, 23), "X"], LENGTHS, strict=True)}
PEAK_WIDTH, PEAK_SPACING, MARGIN = 501, 1000, 5000
IN_PEAKS, NUCLEOSOME_FREE = 0.6, 0.65


def generate(folder: Path, n_fragments: int, n_barcodes: int, n_peaks: int) -> None:
    """Write a library, one chromosome at a time: fragments, barcodes.txt, peaks.bed and sizes.tsv."""
    import pyarrow as pa
    import pysam
    from pyarrow import csv

    rng, share = np.random.default_rng(0), np.array(LENGTHS) / sum(LENGTHS)
    letters = np.array(list("ACGT"))[np.arange(n_barcodes)[:, None] // 4 ** np.arange(10)[::-1] % 4]
    barcodes = np.array(["".join(row) + "-1" for row in letters])
    depth = rng.lognormal(0, 0.5, n_barcodes)
    peaks, plain = [], folder / "fragments.tsv"
    parts = zip(SIZES.items(), rng.multinomial(n_fragments, share), rng.multinomial(n_peaks, share), strict=True)
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with open(plain, "wb") as handle:
        for (chrom, size), n, n_here in parts:
            slots = rng.choice((size - 2 * MARGIN) // PEAK_SPACING, n_here, replace=False)
            starts = np.sort(slots) * PEAK_SPACING + MARGIN + rng.integers(0, PEAK_SPACING - PEAK_WIDTH, n_here)
            peaks.append(pd.DataFrame({"chrom": chrom, "start": starts, "end": starts + PEAK_WIDTH}))
            start, end = draw_fragments(rng, starts, size, n)
            columns = {"chrom": pa.repeat(chrom, n), "start": start, "end": end}
            columns["barcode"] = barcodes[rng.choice(n_barcodes, n, p=depth / depth.sum())]
            csv.write_csv(pa.table(columns | {"reads": rng.geometric(0.5, n)}), handle, options)
    pysam.tabix_index(str(plain), preset="bed", force=True)  # compresses, and removes the plain file
    pd.concat(peaks).to_csv(folder / "peaks.bed", sep="\t", header=False, index=False)
    (folder / "barcodes.txt").write_text("\n".join(barcodes))
    (folder / "sizes.tsv").write_text("\n".join(f"{name}\t{size}" for name, size in SIZES.items()))


def draw_fragments(rng, peak_starts: np.ndarray, size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted fragments of one chromosome: most around peaks of uneven strength, the rest anywhere."""
    strength = rng.lognormal(0, 1, len(peak_starts))
    peak = rng.choice(len(peak_starts), n, p=strength / strength.sum())
    near = peak_starts[peak] + PEAK_WIDTH // 2 + rng.normal(0, 120, n).astype(int)
    middle = np.where(rng.random(n) < IN_PEAKS, near, rng.integers(MARGIN // 2, size - MARGIN // 2, n))
    short, long = rng.integers(30, 140, n), rng.normal(200, 20, n).astype(int).clip(147, 400)
    length = np.where(rng.random(n) < NUCLEOSOME_FREE, short, long)
    start = np.sort(middle - length // 2)
    return start, start + length


def run_ours(folder: Path) -> dict:
    """Count and measure in one pass; to be called in a fresh process."""
    from regulonformer.features import PeakCounter
    from regulonformer.io.fragments import stream_fragments
    from regulonformer.io.peaks import read_bed
    from regulonformer.peaks.intervals import chromosome_names
    from regulonformer.quality.fragments import QualityMeter

    barcodes = (folder / "barcodes.txt").read_text().split()
    started, cpu = time.perf_counter(), time.process_time()
    peaks = read_bed(folder / "peaks.bed")[["chrom", "start", "end"]]
    chromosomes, tss = chromosome_names(peaks), peaks[::5].assign(tss=peaks["start"] + PEAK_WIDTH // 2, strand="+")
    counter = PeakCounter(peaks, chromosomes, len(barcodes))
    meter = QualityMeter(chromosomes, barcodes, tss=tss, peaks=peaks, blacklist=peaks[::100])
    files = {"chromosomes": chromosomes, "barcodes": barcodes, "threads": THREADS}
    for batch in stream_fragments(folder / "fragments.tsv.gz", **files):
        counter.add(batch)
        meter.add(batch)
    matrix, _ = counter.result().matrix, meter.result()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    # Not `ru_maxrss`, in which the process that started this one has a part.
    peak_mb = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3
    return {"seconds": seconds, "cpu_s": cpu, "peak_mb": peak_mb, "matrix": matrix}


def run_peer(folder: Path, python: Path, *options) -> dict:
    """Import and count with SnapATAC2."""
    files = [folder / name for name in ("fragments.tsv.gz", "barcodes.txt", "peaks.bed", "sizes.tsv", "peer.npz")]
    command = [python, Path(__file__).with_name("peer_snapatac2.py"), *files, *options]
    subprocess.run(command, check=True, env=os.environ | {"RAYON_NUM_THREADS": str(THREADS)})
    with np.load(folder / "peer.npz") as found:
        order = pd.Index(found["barcodes"]).get_indexer((folder / "barcodes.txt").read_text().split())
        parts = (found["fragment_data"].astype(np.int32), found["fragment_indices"], found["fragment_indptr"])
        n_peaks = len((folder / "peaks.bed").read_text().splitlines())
        matrix = sparse.csr_matrix(parts, shape=(len(found["barcodes"]), n_peaks))
        empty = sparse.csr_matrix((1, n_peaks), dtype=np.int32)  # for barcodes without fragments, at place -1
        matrix = sparse.vstack([matrix, empty], format="csr")[order]
        return {key: float(found[key]) for key in ("seconds", "cpu_s", "peak_mb")} | {"matrix": matrix}


def alone(function, *arguments):
    """Run in a fresh process, whose peak memory is then that of the function."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def best(runs: list[dict]) -> dict:
    """The shortest time and the highest memory of several runs."""
    shortest = {key: min(run[key] for run in runs) for key in ("seconds", "cpu_s")}
    return shortest | {"peak_mb": max(run["peak_mb"] for run in runs)}


def compare(options, folder: Path) -> tuple[dict, bool]:
    """Measure both on one library, and ours on a larger one; returns who -> figures, and whether counts are equal."""
    small, large = folder / "small", folder / "large"
    ours, peer, equal = [], [], True
    small.mkdir()
    alone(generate, small, options.fragments, options.barcodes, options.peaks)
    for _ in range(options.repeats):
        ours.append(alone(run_ours, small))
        peer.append(run_peer(small, options.peer))
        equal &= (ours[-1].pop("matrix") != peer[-1].pop("matrix")).nnz == 0
    backed = run_peer(small, options.peer, "--backed", small / "backed.h5ad")
    n_large = GROWTH * options.fragments
    large.mkdir()
    alone(generate, large, n_large, options.barcodes, options.peaks)
    grown = alone(run_ours, large)
    matrix = grown["matrix"]
    runs = {"ours": ours, "SnapATAC2": peer, "SnapATAC2, backed": [backed], "ours, larger": [grown]}
    figures = {who: best(several) | {"fragments": options.fragments} for who, several in runs.items()}
    figures["ours, larger"] |= {"fragments": n_large, "matrix_mb": (matrix.data.nbytes + matrix.indices.nbytes) / 1e6}
    return figures, equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fragments", type=int, default=5_000_000)
    parser.add_argument("--barcodes", type=int, default=20_000)
    parser.add_argument("--peaks", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peer", type=Path, default=ROOT / ".venv-peers/bin/python", help="Python that has SnapATAC2")
    parser.add_argument("--scratch", type=Path, help="folder for the libraries (1 GB); a temporary one by default")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="500,000 fragments")
    options = parser.parse_args()
    if options.quick:
        options.fragments = 500_000
    if not options.peer.exists():
        parser.error(f"no {options.peer}: run `make peers`, or give --peer")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        figures, equal = compare(options, Path(folder))
    table = pd.DataFrame(figures).T
    table.insert(0, "fragments_per_s", table["fragments"] / table["seconds"])
    print(table.to_string(float_format="{:,.1f}".format, na_rep=""))
    ours, peer, backed, larger = (row for _, row in table.iterrows())
    result = {
        "throughput_ratio": ours["fragments_per_s"] / peer["fragments_per_s"],
        "memory_ratio": ours["peak_mb"] / peer["peak_mb"],
        "counts_equal": bool(equal),
        "memory_growth": larger["peak_mb"] / ours["peak_mb"],
        "cpu_ratio": peer["cpu_s"] / ours["cpu_s"],
        "fragments_per_s": ours["fragments_per_s"],
        "fragments_per_s_peer": peer["fragments_per_s"],
        "peak_mb": ours["peak_mb"],
        "peak_mb_peer": peer["peak_mb"],
        "peak_mb_peer_backed": backed["peak_mb"],
        "peak_mb_larger": larger["peak_mb"],
        "matrix_mb_larger": larger["matrix_mb"],
    }
    for key, value in result.items():
        print(f"{key}: {value if isinstance(value, bool) else format(value, ',.2f')}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
