"""Motif scan: time for all vertebrate motifs of JASPAR in many peaks, and hits and speed against MOODS and memelite.

    python benchmarks/motifs.py [--peaks 100000] [--sample 2000] [--json FILE] [--quick]

A genome is generated whose GC content varies as in a mammal's, with peaks of 501 bp. Ours reads and scans all of them.
On a sample of them it is then compared with two peers, on the same two CPUs, with the same motifs, pseudocount and
p-value. MOODS also gets the base composition of the same groups of peaks; memelite knows equal base frequencies alone,
so only its speed compares. Times of a sample contain the p-value thresholds, which do not grow with the peaks;
`..._ratio_full` is for all peaks, with the peer's scan, but not its thresholds, multiplied up.

`hits_equal`: MOODS finds the same (motif, peak) pairs if given our matrices and score thresholds. `hits_shared`: share
of pairs in common when it works out its own, which differ by how scores are rounded. `make peers` sets up the peers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from regulonformer.prior import motif_scan, motif_scores, peak_sequences  # noqa: E402
from regulonformer.prior.motifs import BASES, Motif, read_jaspar  # noqa: E402

THREADS, P_VALUE, RELEASE = 2, 1e-4, "JASPAR2024"
CHROMOSOMES, PEAK_WIDTH, SPACING = 20, 501, 1000
# GC content of 501-bp peaks: most like the genome's, some like CpG islands.
ISLANDS, GC_ISLAND, GC_OTHER = 0.2, (30, 18), (20, 26)
OUT_OF_REACH = 1e9  # bits; JSON has no infinity
LETTERS = np.frombuffer(b"ATCG", np.uint8)


def write_genome(path: Path, n_peaks: int, spacing: int = SPACING, seed: int = 0) -> pd.DataFrame:
    """Write an indexed FASTA, one chromosome at a time, and return its peaks: chrom, start, end.

    Only the first `SPACING` bases of every `spacing` are drawn, with the peak in their middle; the others are N.
    """
    import pysam

    rng, peaks = np.random.default_rng(seed), []
    with open(path, "wb") as handle:
        for number, part in enumerate(np.array_split(np.arange(n_peaks), CHROMOSOMES), start=1):
            island = rng.random(len(part)) < ISLANDS
            gc = np.where(island, rng.beta(*GC_ISLAND, len(part)), rng.beta(*GC_OTHER, len(part)))
            strong = rng.random((len(part), SPACING), np.float32) < gc[:, None]
            chromosome = np.full((len(part), spacing), ord("N"), np.uint8)
            chromosome[:, :SPACING] = LETTERS[2 * strong + rng.integers(2, size=strong.shape, dtype=np.int8)]
            handle.write(f">chr{number}\n".encode() + chromosome.tobytes() + b"\n")
            start = np.arange(len(part)) * spacing + (SPACING - PEAK_WIDTH) // 2
            peaks.append(pd.DataFrame({"chrom": f"chr{number}", "start": start, "end": start + PEAK_WIDTH}))
    pysam.faidx(str(path))
    return pd.concat(peaks, ignore_index=True)


def timed(function, *arguments) -> tuple[object, dict]:
    """Result of a call, and its seconds by the clock and of the CPUs."""
    started, cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return result, {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}


def scan(fasta: Path, motifs: list, peaks: pd.DataFrame):
    """Ours: read the sequences of peaks and scan them."""
    sequences, _ = peak_sequences.read_sequences(fasta, peaks)
    return motif_scan.scan(motifs, sequences, peaks.index.astype(str), P_VALUE, THREADS)


def write_tasks(folder: Path, motifs: list, sequences: list[bytes]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write the peers' work: `own.json`, and `given.json` with our matrices and thresholds.

    Returns the peaks of every group, and which motifs are wide enough to reach the p-value there.
    """
    groups, own, given = [], [], []
    for members in motif_scan.gc_groups(sequences):
        composition = motif_scores.background([sequences[i] for i in members])
        bases = [composition[base] for base in BASES]
        own.append({"composition": bases, "sequences": [sequences[i].decode() for i in members]})
        matrices = [motif_scores.log_odds(motif.counts, composition).tolist() for motif in motifs]
        # Between two possible scores, so that it does not matter whether a score equal to the threshold counts.
        cutoffs = np.array([motif_scores.Scorer(motif, composition, P_VALUE).cutoff for motif in motifs])
        groups.append((members, np.isfinite(cutoffs)))
        cutoffs = np.minimum(cutoffs, OUT_OF_REACH) - motif_scores.STEP / 2
        given.append(own[-1] | {"matrices": matrices, "cutoffs": cutoffs.tolist()})
    task = {"motifs": [motif.counts.tolist() for motif in motifs], "p_value": P_VALUE}
    task["pseudocount"] = motif_scores.PSEUDOCOUNT
    for name, parts in (("own", own), ("given", given)):
        (folder / f"{name}.json").write_text(json.dumps(task | {"groups": parts}))
    return groups


def run_peer(python: Path, scanner: str, task: Path) -> dict:
    """Figures, and hits, of a peer in a fresh process."""
    output = task.with_name("peer.json")
    script = Path(__file__).with_name("peer_motifs.py")
    subprocess.run([python, script, scanner, task, output, "--threads", str(THREADS)], check=True)
    found = json.loads(output.read_text())
    return found | {"seconds": found["setup_seconds"] + found["scan_seconds"]}


def pairs_of(found: dict, groups: list[tuple[np.ndarray, np.ndarray]], n_peaks: int) -> np.ndarray:
    """Distinct (motif, peak) pairs of a peer, each as one number.

    Of motifs too short to reach the p-value MOODS reports the best word nevertheless; those pairs are left out.
    """
    pairs = []
    for hits, (members, in_reach) in zip(found["hits"], groups, strict=True):
        motif, peak = np.array(hits).reshape(-1, 2).T
        pairs.append((motif * n_peaks + members[peak])[in_reach[motif]])
    return np.unique(np.concatenate(pairs))


def compare(options, folder: Path) -> tuple[dict, dict]:
    """Scan all peaks, then a sample in turns with the peers; returns who -> figures, and how the hits compare."""
    fasta = folder / "genome.fa"
    peaks = write_genome(fasta, options.peaks)
    # Every matrix is its own gene: hits are compared, and counted, per matrix.
    read = read_jaspar(RELEASE)
    motifs = [Motif(m.matrix_id, m.name, m.counts, (m.matrix_id,)) for m in read]
    figures = {"ours, all": {"peaks": options.peaks} | timed(scan, fasta, motifs, peaks)[1]}
    chosen = np.random.default_rng(1).choice(len(peaks), min(options.sample, len(peaks)), replace=False)
    sample = peaks.iloc[np.sort(chosen)].reset_index(drop=True)
    sequences, _ = peak_sequences.read_sequences(fasta, sample)
    groups = write_tasks(folder, motifs, sequences)
    hits, figures["ours"] = timed(scan, fasta, motifs, sample)
    moods = run_peer(options.peer, "moods", folder / "own.json")
    memelite = run_peer(options.peer, "memelite", folder / "own.json")
    given = run_peer(options.peer, "moods", folder / "given.json")

    matrix = hits.scores.tocoo()
    row = pd.Index([motif.matrix_id for motif in motifs]).get_indexer(hits.tfs)
    ours = np.unique(row[matrix.row].astype(np.int64) * len(sample) + matrix.col)
    theirs, same = (pairs_of(found, groups, len(sample)) for found in (moods, given))
    both, either = len(np.intersect1d(ours, theirs)), len(np.union1d(ours, theirs))
    equality = {"hits_equal": np.array_equal(ours, same), "hits_shared": both / either, "hits": len(ours)}
    for name, found in (("MOODS", moods), ("memelite", memelite)):
        figures[name] = {key: value for key, value in found.items() if key != "hits"}
    for who in ("ours", "MOODS", "memelite"):
        figures[who] |= {"peaks": len(sample)}
    for row in figures.values():
        row["peak_motifs_per_s"] = row["peaks"] * len(motifs) / row["seconds"]
    return figures, equality


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peaks", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=2_000, help="peaks that the peers scan")
    parser.add_argument("--peer", type=Path, default=ROOT / ".venv-peers/bin/python", help="Python that has the peers")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="5,000 peaks")
    options = parser.parse_args()
    if options.quick:
        options.peaks = 5_000
    if not options.peer.exists():
        parser.error(f"no {options.peer}: run `make peers`, or give --peer")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    with tempfile.TemporaryDirectory() as folder:
        figures, equality = compare(options, Path(folder))
    print(pd.DataFrame(figures).T.to_string(float_format="{:,.1f}".format, na_rep=""))
    everything, ours, moods, memelite = (figures[who] for who in ("ours, all", "ours", "MOODS", "memelite"))
    grown = options.peaks / ours["peaks"]
    result = {
        "scan_seconds_100k": everything["seconds"] * 100_000 / options.peaks,
        "scan_cpu_seconds_100k": everything["cpu_seconds"] * 100_000 / options.peaks,
        "peer_ratio": moods["seconds"] / ours["seconds"],
        "peer_ratio_cpu": moods["cpu_seconds"] / ours["cpu_seconds"],
        "peer_ratio_full": (moods["setup_seconds"] + moods["scan_seconds"] * grown) / everything["seconds"],
        "memelite_ratio": memelite["seconds"] / ours["seconds"],
        "memelite_ratio_cpu": memelite["cpu_seconds"] / ours["cpu_seconds"],
        "memelite_ratio_full": memelite["seconds"] * grown / everything["seconds"],
    } | equality
    for key, value in result.items():
        print(f"{key}: {value if isinstance(value, bool) else format(value, ',.4g')}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
