"""Scores of a motif: log-odds of its sites, and how probable each score is by chance."""

import lightmotif
import numba
import numpy as np

from regulonformer.prior.motifs import BASES, Motif

PSEUDOCOUNT = 0.1
# Bits. A power of two, so that sums of rounded scores are exact in single precision.
STEP = 1 / 128


def background(sequences: list[bytes]) -> dict[str, float]:
    """Base frequencies of the sequences, the same on both strands, as lightmotif takes them."""
    n = {base: sum(sequence.count(base.encode()) for sequence in sequences) for base in BASES}
    gc = min(max((n["G"] + n["C"]) / max(sum(n.values()), 1), 0.05), 0.95)
    # lightmotif wants frequencies that add up to 1 exactly, in single precision.
    gc = round(gc * 1024) / 1024
    return {"A": (1 - gc) / 2, "C": gc / 2, "G": gc / 2, "T": (1 - gc) / 2, "N": 0.0}


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
