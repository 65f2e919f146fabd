"""Count and measure fragments with SnapATAC2, in the environment that `make peers` sets up.

    .venv-peers/bin/python benchmarks/peer_snapatac2.py FRAGMENTS BARCODES PEAKS SIZES OUTPUT.npz [options]

It stands alone: nothing of the product is imported, as SnapATAC2 is not part of the product's environment. `OUTPUT.npz`
holds the barcodes that have fragments, per strategy the counts (csr over the peaks, in the order of the file), metrics
by barcode, the seconds that import and counting took (by the clock, and of the CPUs), and the peak memory.
"""

import argparse
import re
import time
from pathlib import Path

import numpy as np
import snapatac2 as snap


def peak_mb() -> float:
    """High-water mark of this process's memory; unlike `ru_maxrss` it is free of the process that started it."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fragments", type=Path, help="five columns; in any order")
    parser.add_argument("barcodes", type=Path, help="one barcode a line")
    parser.add_argument("peaks", type=Path, help="BED")
    parser.add_argument("sizes", type=Path, help="name and length of every chromosome, tab-separated")
    parser.add_argument("output", type=Path)
    parser.add_argument("--strategies", nargs="+", default=["fragment"])
    parser.add_argument("--gtf", type=Path, help="transcripts, for the TSS enrichment; without it no metrics")
    parser.add_argument("--backed", type=Path, help="h5ad file to keep the fragments in instead of memory")
    options = parser.parse_args()

    sizes = {name: int(size) for name, size in (line.split("\t") for line in options.sizes.read_text().splitlines())}
    peaks = ["{}:{}-{}".format(*line.split("\t")[:3]) for line in options.peaks.read_text().splitlines()]
    started, cpu = time.perf_counter(), time.process_time()
    data = snap.pp.import_fragments(
        options.fragments,
        sizes,
        file=options.backed,
        whitelist=options.barcodes.read_text().split(),
        min_num_fragments=0,
        sorted_by_barcode=False,
    )
    matrices = {}
    for strategy in options.strategies:
        counted = snap.pp.make_peak_matrix(data, use_rep=peaks, counting_strategy=strategy)
        assert list(counted.var_names) == peaks
        matrices |= {f"{strategy}_{part}": getattr(counted.X, part) for part in ("data", "indices", "indptr")}
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    result = {"seconds": seconds, "cpu_s": cpu, "peak_mb": peak_mb()}
    if options.gtf:
        result |= snap.metrics.tsse(data, options.gtf, inplace=False)
        result |= snap.metrics.frip(data, {"frip": peaks}, inplace=False)
        result |= {name: np.asarray(data.obs[name]) for name in ("n_fragment", "frac_dup")}
    np.savez(options.output, barcodes=np.array(data.obs_names, dtype=str), **matrices, **result)


if __name__ == "__main__":
    main()
