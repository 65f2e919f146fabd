"""The best site of every TF in every peak."""

import logging
from concurrent.futures import ThreadPoolExecutor

import lightmotif
import numpy as np
from scipy import sparse

from regulonformer.prior.motif_hits import MotifHits
from regulonformer.prior.motif_scores import Scorer, background
from regulonformer.prior.motifs import Motif

# Long enough to keep the vector unit busy, short enough that the scores of a block stay small in memory.
BLOCK_BASES = 500_000
# Peaks are scanned in this many groups of equal GC content, if each has this many bases at least.
GC_GROUPS, BASES_PER_GROUP = 5, 200_000


def gc_groups(sequences: list[bytes]) -> list[np.ndarray]:
    """Numbers of the sequences in groups of about equal size, from low to high GC content; one group if there are few.

    A motif rich in G and C is no surprise in a CpG island; against its own group a site counts for what it is.
    """
    bases = np.array([len(s) - s.count(b"N") for s in sequences])
    gc = np.array([s.count(b"G") + s.count(b"C") for s in sequences]) / np.maximum(bases, 1)
    n_groups = int(np.clip(bases.sum() // BASES_PER_GROUP, 1, GC_GROUPS))
    return [np.sort(group) for group in np.array_split(np.argsort(gc, kind="stable"), n_groups)]


def scan(motifs: list[Motif], sequences: list[bytes], peak_names, p_value: float, threads: int = 1) -> MotifHits:
    """Find the best site of every TF in every peak.

    Log-odds scores against the base composition of peaks with similar GC content (see `gc_groups`), on both strands; a
    site counts if its p-value (of the score under that composition, the definition of FIMO, Grant et al. 2011,
    doi:10.1093/bioinformatics/btr064) is at most `p_value`. A site never contains an N and never crosses from
    one peak to the next.

    Parameters
    ----------
    motifs
        Motifs with genes.
    sequences
        One per peak.
    peak_names
        Names of the peaks.
    p_value
        Threshold per position and strand.
    threads
        Blocks of sequence scanned at the same time.
    """
    tfs = np.array(sorted({gene for motif in motifs for gene in motif.genes}), dtype=object)
    work, short = [], np.ones(len(motifs), dtype=bool)
    with ThreadPoolExecutor(threads) as pool:
        for members in gc_groups(sequences):
            composition = background([sequences[i] for i in members])
            scorers = list(pool.map(lambda motif, used=composition: Scorer(motif, used, p_value), motifs))
            short &= [np.isinf(scorer.cutoff) for scorer in scorers]
            work += [(*block, scorers) for block in _blocks(sequences, members)]
        found = list(pool.map(lambda part: _scan_block(*part), work))
    best = _best_per_tf(found, motifs, tfs, len(sequences))
    ids = [",".join(sorted(motif.matrix_id for motif in motifs if tf in motif.genes)) for tf in tfs]
    if short.any():
        logging.info("%d motifs are too short to reach p <= %g and have no hits", short.sum(), p_value)
    counts = {
        "motifs_too_short_for_p_value": int(short.sum()),
        "gc_share": round(2 * background(sequences)["G"], 4),
        "tf_peak_pairs": int(best.nnz),
        "tfs_without_hits": int((np.diff(best.indptr) == 0).sum()),
    }
    return MotifHits(best, tfs, np.asarray(peak_names, dtype=object), np.array(ids, dtype=object), counts)


def _blocks(sequences: list[bytes], members) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Join peaks into blocks of sequence, one N between peaks: no site may hold an N, so none crosses a border.

    Each block is its sequence, the numbers of its peaks, and where each starts.
    """
    ends = np.cumsum([len(sequences[i]) + 1 for i in members])
    blocks = []
    for part in np.split(members, np.flatnonzero(np.diff(ends // BLOCK_BASES)) + 1):
        lengths = np.array([len(sequences[i]) + 1 for i in part])
        text = b"".join(sequences[i] + b"N" for i in part).decode()
        blocks.append((text, part, np.cumsum(lengths) - lengths))
    return blocks


def _scan_block(text, peaks, starts, scorers) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Hits of every motif in one block: motif, peaks, -log10 p."""
    sequence = lightmotif.stripe(text)
    found = []
    for number, scorer in enumerate(scorers):
        if np.isinf(scorer.cutoff) or len(scorer.strands[0]) > len(text):
            continue
        positions, strength = scorer.sites(sequence)
        if len(positions):
            found.append((number, peaks[np.searchsorted(starts, positions, side="right") - 1], strength))
    return found


def _best_per_tf(found, motifs, tfs, n_peaks) -> sparse.csr_matrix:
    """Keep the highest score over motifs, strands and sites for each TF and peak."""
    row_of = {tf: row for row, tf in enumerate(tfs)}
    rows, columns, values = [], [], []
    for number, peak, value in (hit for block in found for hit in block):
        for gene in motifs[number].genes:
            rows.append(np.full(len(peak), row_of[gene]))
            columns.append(peak)
            values.append(value)
    if not rows:
        return sparse.csr_matrix((len(tfs), n_peaks), dtype=np.float32)
    key = np.concatenate(rows).astype(np.int64) * n_peaks + np.concatenate(columns)
    value = np.concatenate(values)
    order = np.lexsort((-value, key))
    key, first = np.unique(key[order], return_index=True)
    best = value[order][first].astype(np.float32)
    return sparse.csr_matrix((best, (key // n_peaks, key % n_peaks)), shape=(len(tfs), n_peaks))
