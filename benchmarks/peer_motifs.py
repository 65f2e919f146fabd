"""Scan sequences for motifs with MOODS or memelite, in the environment that `make peers` sets up.

    .venv-peers/bin/python benchmarks/peer_motifs.py {moods,memelite} TASK.json OUTPUT.json [--threads 2]

It stands alone: nothing of the product is imported. The task holds `motifs` (count matrices, 4 x width), `pseudocount`,
`p_value`, and `groups` of sequences of one base composition each (`composition`, `sequences`). For MOODS a group may
give `matrices` and `cutoffs` to take instead of its own log-odds and p-value thresholds. The output holds
`setup_seconds` (matrices and thresholds), `scan_seconds`, `cpu_seconds`, and for MOODS `hits` of every group (motif,
sequence). For memelite, the scan contains the setup.

memelite's p-values know equal base frequencies alone, so its hits are others; only its speed compares.
"""

import argparse
import bisect
import json
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate

# MOODS's default is 7, with which it misses sites of 6 bases right before an N. Narrower ones never reach the p-value.
WINDOW = 6


def moods_part(task: dict, motifs: list[int]) -> dict:
    """Scan all groups for some of the motifs."""
    import MOODS.scan
    import MOODS.tools as tools

    seconds, hits = {"setup_seconds": 0.0, "scan_seconds": 0.0}, []
    cpu = time.process_time()
    for group in task["groups"]:
        started, composition = time.perf_counter(), group["composition"]
        if "matrices" in group:
            matrices, cutoffs = ([group[key][motif] for motif in motifs] for key in ("matrices", "cutoffs"))
        else:
            matrices = [tools.log_odds(task["motifs"][m], composition, task["pseudocount"], 2.0) for m in motifs]
            cutoffs = [tools.threshold_from_p(matrix, composition, task["p_value"]) for matrix in matrices]
        scanner = MOODS.scan.Scanner(WINDOW)
        both = [*matrices, *map(tools.reverse_complement, matrices)]
        scanner.set_motifs(both, composition, [*cutoffs, *cutoffs])
        seconds["setup_seconds"] += time.perf_counter() - started

        started, sequences = time.perf_counter(), group["sequences"]
        starts = list(accumulate((len(sequence) + 1 for sequence in sequences), initial=0))[:-1]
        found = scanner.scan("N".join(sequences))  # no site holds an N, so none crosses a border
        per_motif = (found[i : i + 1] + found[i + len(motifs) : i + len(motifs) + 1] for i in range(len(motifs)))
        hits.append(
            [
                (motif, sequence)
                for motif, strands in zip(motifs, per_motif, strict=True)
                for sequence in {bisect.bisect(starts, hit.pos) - 1 for strand in strands for hit in strand}
            ]
        )
        seconds["scan_seconds"] += time.perf_counter() - started
    return seconds | {"cpu_seconds": time.process_time() - cpu, "hits": hits}


def run_moods(task: dict, threads: int) -> dict:
    """MOODS has no threads: the motifs are divided among processes. Time is that of the slowest."""
    motifs = range(len(task["motifs"]))
    with ProcessPoolExecutor(threads) as pool:
        parts = list(pool.map(moods_part, [task] * threads, [motifs[part::threads] for part in range(threads)]))
    result = {key: max(part[key] for part in parts) for key in ("setup_seconds", "scan_seconds")}
    result["cpu_seconds"] = sum(part["cpu_seconds"] for part in parts)
    return result | {"hits": [sum(group, []) for group in zip(*(part["hits"] for part in parts), strict=True)]}


def run_memelite(task: dict, threads: int) -> dict:
    """FIMO with equal base frequencies, its own bins of scores."""
    import numba
    import numpy as np
    from memelite import fimo

    numba.set_num_threads(threads)
    pseudocount = task["pseudocount"] / 4
    frequencies = [np.array(counts) + pseudocount for counts in task["motifs"]]
    motifs = {str(number): counts / counts.sum(axis=0) for number, counts in enumerate(frequencies)}
    sequences = [sequence.encode() for group in task["groups"] for sequence in group["sequences"]]
    letters = np.frombuffer(b"".join(sequences), np.uint8).reshape(len(sequences), -1)
    one_hot = (letters[:, None] == np.frombuffer(b"ACGT", np.uint8)[:, None]).astype(np.int8)
    options = {"threshold": task["p_value"], "eps": 0}
    fimo({"0": motifs["0"]}, one_hot[:10], **options)  # compiles
    started, cpu = time.perf_counter(), time.process_time()
    fimo(motifs, one_hot, **options)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"setup_seconds": 0.0, "scan_seconds": seconds, "cpu_seconds": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scanner", choices=["moods", "memelite"])
    parser.add_argument("task")
    parser.add_argument("output")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with open(options.task) as handle:
        task = json.load(handle)
    result = {"moods": run_moods, "memelite": run_memelite}[options.scanner](task, options.threads)
    with open(options.output, "w") as handle:
        json.dump(result, handle)


if __name__ == "__main__":
    main()
