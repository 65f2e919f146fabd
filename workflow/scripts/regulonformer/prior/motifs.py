"""TF motifs in peaks: matrices mapped to TF genes, and their best site in every peak."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import StringIO

import lightmotif
import numba
import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames

BASES = "ACGT"
PSEUDOCOUNT = 0.1
# Bits. A power of two, so that sums of rounded scores are exact in single precision.
STEP = 1 / 128
# Long enough to keep the vector unit busy, short enough that the scores of a block stay small in memory.
BLOCK_BASES = 500_000
# Peaks are scanned in this many groups of equal GC content, if each has this many bases at least.
GC_GROUPS, BASES_PER_GROUP = 5, 200_000
_TO_BASES = bytes.maketrans(b"acgtACGT", b"ACGTACGT")
_OTHERS = bytes(code for code in range(256) if chr(code) not in "ACGTacgt")
_CLEAN = bytes(ord("N") if code in _OTHERS else _TO_BASES[code] for code in range(256))


@dataclass(frozen=True)
class Motif:
    """A count matrix with the TF genes it stands for.

    Attributes
    ----------
    matrix_id, name
        As in JASPAR, e.g. MA0139.1 and CTCF.
    counts
        4 x width, rows A, C, G, T.
    genes
        Symbols of the TF genes, as the gene table spells them.
    """

    matrix_id: str
    name: str
    counts: np.ndarray
    genes: tuple[str, ...] = ()


@dataclass
class MotifHits:
    """Best motif site per TF and peak.

    Attributes
    ----------
    scores
        TFs x peaks, csr float32: -log10 p of the best site of any of the TF's motifs on either strand.
    tfs, peaks
        Names of rows and columns.
    motif_ids
        Per TF, its matrices, comma-separated.
    counts
        What was read, mapped and left out.
    unmapped
        Names of motifs without a gene.
    """

    scores: sparse.csr_matrix
    tfs: np.ndarray
    peaks: np.ndarray
    motif_ids: np.ndarray
    counts: dict = field(default_factory=dict)
    unmapped: list = field(default_factory=list)


def read_jaspar(release: str) -> list[Motif]:
    """Vertebrate CORE matrices of a JASPAR release that comes with pyjaspar (no network needed), by identifier.

    Raises
    ------
    InputError
        If pyjaspar has no such release.
    """
    from pyjaspar import jaspardb

    known = jaspardb().get_releases()
    if release not in known:
        raise InputError(
            "regulons/jaspar_release", f"{release!r} is not in pyjaspar", f"Choose one of {', '.join(known)}"
        )
    return _motifs_of(jaspardb(release=release).fetch_motifs(collection="CORE", tax_group=["vertebrates"]))


def read_motifs(path) -> list[Motif]:
    """Read motifs from a file in JASPAR or MEME (minimal) format; the TF is the name after the identifier.

    Raises
    ------
    InputError
        If the file holds no motif of either format.
    """
    from Bio import motifs

    fix = "Give a file in JASPAR format (>MA0139.1 CTCF, then rows A, C, G, T) or in MEME format"
    try:
        with open(path) as handle:
            lines = handle.readlines()
        is_meme = any(line.startswith("MEME version") for line in lines)
        records = list(motifs.parse(StringIO("".join(lines)), "minimal" if is_meme else "jaspar"))
        if is_meme:
            # The parser leaves out the second name. Without one the identifier is the name.
            names = [line.split()[1:3] for line in lines if line.startswith("MOTIF ")]
            for record, words in zip(records, names, strict=True):
                record.matrix_id, record.name = words[0], words[-1]
        found = _motifs_of(records)
    # Biopython's parsers stumble over other formats in many ways.
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"not a readable motif file ({error})", fix) from error
    if not found:
        raise InputError(path, "holds no motif", fix)
    return found


def _motifs_of(records) -> list[Motif]:
    """Motifs of JASPAR records, by identifier."""
    motifs = [Motif(r.matrix_id, r.name, np.array([r.counts[base] for base in BASES], dtype=float)) for r in records]
    return sorted(motifs, key=lambda motif: motif.matrix_id)


def motif_symbols(name: str) -> list[str]:
    """Gene symbols in a motif name: both partners of "A::B", without a suffix such as "(var.2)"."""
    return [re.sub(r"\(.*?\)", "", part).strip() for part in name.split("::")]


def map_motifs(motifs: list[Motif], genes: GeneNames) -> tuple[list[Motif], list[str]]:
    """Give every motif its TF genes.

    A dimer is kept if one partner at least is among the genes.

    Returns
    -------
    mapped
        Motifs with genes.
    unmapped
        Names of the others.
    """
    mapped, unmapped = [], []
    for motif in motifs:
        found = tuple(dict.fromkeys(symbol for symbol in genes.spell(motif_symbols(motif.name)) if symbol))
        if found:
            mapped.append(Motif(motif.matrix_id, motif.name, motif.counts, found))
        else:
            unmapped.append(motif.name)
    return mapped, unmapped


def read_sequences(fasta, peaks: pd.DataFrame) -> tuple[list[bytes], dict]:
    """Sequence of every peak: upper case, everything but A, C, G, T written as N.

    Parameters
    ----------
    fasta
        Genome with a .fai beside it.
    peaks
        chrom, start, end.

    Returns
    -------
    sequences
        One per peak; empty where the chromosome is not in the genome.
    counts
        Peaks without chromosome, beyond its end, and without any base.

    Raises
    ------
    InputError
        If no peak lies on a chromosome of the genome, or none has a base: another build, or other chromosome names.
    """
    import pysam

    counts = {"peaks_without_chromosome": 0, "peaks_beyond_chromosome": 0, "peaks_without_bases": 0}
    sequences = []
    with pysam.FastaFile(str(fasta)) as genome:
        lengths = dict(zip(genome.references, genome.lengths, strict=True))
        for chrom, start, end in zip(peaks["chrom"], peaks["start"], peaks["end"], strict=True):
            inside = chrom in lengths and start < lengths[chrom]
            sequence = (
                genome.fetch(chrom, start, min(end, lengths[chrom])).encode().translate(_CLEAN) if inside else b""
            )
            counts["peaks_without_chromosome"] += chrom not in lengths
            counts["peaks_beyond_chromosome"] += chrom in lengths and end > lengths[chrom]
            counts["peaks_without_bases"] += not sequence.strip(b"N")
            sequences.append(sequence)
    if counts["peaks_without_bases"] == len(peaks):
        names, known = ", ".join(sorted(set(peaks["chrom"]))[:3]), ", ".join(list(lengths)[:3])
        problem = f"no peak has sequence here (peaks on {names}; genome has {known})"
        raise InputError(
            fasta, problem, "Give the genome build and the chromosome names that the peaks were called with"
        )
    return sequences, counts


def gc_groups(sequences: list[bytes]) -> list[np.ndarray]:
    """Numbers of the sequences in groups of about equal size, from low to high GC content; one group if there are few.

    A motif rich in G and C is no surprise in a CpG island; against its own group a site counts for what it is.
    """
    bases = np.array([len(s) - s.count(b"N") for s in sequences])
    gc = np.array([s.count(b"G") + s.count(b"C") for s in sequences]) / np.maximum(bases, 1)
    n_groups = int(np.clip(bases.sum() // BASES_PER_GROUP, 1, GC_GROUPS))
    return [np.sort(group) for group in np.array_split(np.argsort(gc, kind="stable"), n_groups)]


def background(sequences: list[bytes]) -> dict[str, float]:
    """Base frequencies of the sequences, the same on both strands, as lightmotif takes them."""
    n = {base: sum(sequence.count(base.encode()) for sequence in sequences) for base in BASES}
    gc = min(max((n["G"] + n["C"]) / max(sum(n.values()), 1), 0.05), 0.95)
    # lightmotif wants frequencies that add up to 1 exactly, in single precision.
    gc = round(gc * 1024) / 1024
    return {"A": (1 - gc) / 2, "C": gc / 2, "G": gc / 2, "T": (1 - gc) / 2, "N": 0.0}


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


def log_odds(counts: np.ndarray, composition: dict) -> np.ndarray:
    """Log-odds in bits of a count matrix, rounded to `STEP` so that sums of scores are exact; 4 x width."""
    base = np.array([composition[b] for b in BASES])[:, None]
    frequency = (counts + PSEUDOCOUNT * base) / (counts.sum(axis=0) + PSEUDOCOUNT)
    return np.rint(np.log2(frequency / base) / STEP) * STEP


def score_tail(weights: np.ndarray, composition: dict) -> tuple[float, np.ndarray]:
    """P-value of every possible score of a random site, by dynamic programming over the positions.

    lightmotif tabulates p-values for equal base frequencies only, hence our own (Staden 1989,
    doi:10.1093/bioinformatics/5.2.89).

    Parameters
    ----------
    weights
        Log-odds as `log_odds` gives them, 4 x width.
    composition
        Base frequencies.

    Returns
    -------
    lowest
        Lowest possible score.
    tail
        P(score >= lowest + i x STEP), from 1 down.
    """
    steps = np.rint((weights - weights.min(axis=0)) / STEP).astype(np.int64)
    chance = _chance_of_scores(steps, np.array([composition[base] for base in BASES]))
    return float(weights.min(axis=0).sum()), np.cumsum(chance[::-1])[::-1]


@numba.njit(cache=True, nogil=True)
def _chance_of_scores(steps, frequencies):
    """Probability of every sum of one step per column, 4 x width, from 0 up; bases are independent."""
    widest = steps.max()
    size = np.int64(1)
    for column in range(steps.shape[1]):
        size += steps[:, column].max()
    # Zeros in front stand for sums that a base cannot reach.
    before, after = np.zeros(widest + size), np.zeros(widest + size)
    before[widest], reach = 1.0, np.int64(1)
    f_a, f_c, f_g, f_t = frequencies
    for column in range(steps.shape[1]):
        reach += steps[:, column].max()
        a, c, g, t = widest - steps[:, column]
        from_a, from_c, from_g, from_t = before[a:], before[c:], before[g:], before[t:]
        sums = after[widest:]
        for score in range(reach):
            sums[score] = f_a * from_a[score] + f_c * from_c[score] + f_g * from_g[score] + f_t * from_t[score]
        before, after = after, before
    return before[widest:]


class Scorer:
    """One motif ready to scan: both strands, the lowest score that counts, and p-values."""

    def __init__(self, motif: Motif, composition: dict, p_value: float) -> None:
        weights = log_odds(motif.counts, composition)
        self.lowest, self.tail = score_tail(weights, composition)
        # The tail falls, so the scores that count are its end.
        n_allowed = np.searchsorted(self.tail[::-1], p_value, side="right")
        # A short motif may never be improbable enough: then no score counts.
        self.cutoff = self.lowest + (len(self.tail) - n_allowed) * STEP if n_allowed else np.inf
        # A site with an N scores minus infinity.
        values = {base: row.tolist() for base, row in zip(BASES, weights, strict=True)} | {
            "N": [-np.inf] * weights.shape[1]
        }
        forward = lightmotif.ScoringMatrix(values, composition)
        self.strands = (forward, forward.reverse_complement())

    def sites(self, sequence) -> tuple[np.ndarray, np.ndarray]:
        """Positions and -log10 p of all sites on both strands of a striped sequence."""
        positions, scores = [], []
        for strand in self.strands:
            # A coarse first pass leaves few positions to score exactly.
            for site in lightmotif.scan(strand, sequence, threshold=self.cutoff):
                positions.append(site.position)
                scores.append(site.score)
        index = np.rint((np.array(scores) - self.lowest) / STEP).astype(int)
        return np.array(positions, dtype=np.int64), -np.log10(self.tail[index])


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


def write_hits(hits: MotifHits, path) -> None:
    """Write motif hits as npz: the parts of a csr matrix, names, counts."""
    matrix = hits.scores
    np.savez_compressed(
        path,
        data=matrix.data,
        indices=matrix.indices,
        indptr=matrix.indptr,
        shape=np.array(matrix.shape),
        tfs=hits.tfs.astype(str),
        peaks=hits.peaks.astype(str),
        motif_ids=hits.motif_ids.astype(str),
        count_names=np.array(sorted(hits.counts), dtype=str),
        count_values=np.array([hits.counts[name] for name in sorted(hits.counts)], dtype=float),
        unmapped=np.array(hits.unmapped, dtype=str),
    )


def read_hits(path) -> MotifHits:
    """Read what `write_hits` wrote."""
    with np.load(path) as stored:
        scores = sparse.csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=tuple(stored["shape"]))
        names = [stored[key].astype(object) for key in ("tfs", "peaks", "motif_ids")]
        values = (int(v) if v == int(v) else float(v) for v in stored["count_values"])
        counts = dict(zip(stored["count_names"].tolist(), values, strict=True))
        return MotifHits(scores, *names, counts, stored["unmapped"].tolist())
