"""Tn5 fragments of the simulated cells: where they lie, how long they are, how often they were sequenced."""

import numpy as np
import pandas as pd

# Shares of fragments that come from CREs, from their shoulders and from the rest of the genome.
SOURCES_LIVING = (0.64, 0.16, 0.20)
SOURCES_DYING = (0.07, 0.13, 0.80)
# Below, on one and on two nucleosomes; mean and standard deviation in bp.
LENGTHS = ((78, 20), (198, 22), (390, 30))
LENGTH_SHARES = {"cre": (0.66, 0.26, 0.08), "background": (0.38, 0.42, 0.20)}
SHORTEST, LONGEST = 30, 600
CRE_SPREAD, SHOULDER_SPREAD = 110, 1_000
MEAN_EXTRA_READS = 0.8
ALLELES = 2


class Layout:
    """All chromosomes end to end, so that one integer is a position in the genome.

    Parameters
    ----------
    sizes
        Length of each chromosome in bp, in genome order.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        self.names = list(sizes)
        self.ends = np.cumsum(list(sizes.values()))
        self.starts = self.ends - np.array(list(sizes.values()))

    def linear(self, chrom, position) -> np.ndarray:
        """Position in the joined genome of positions (bp) on chromosomes (names)."""
        return self.starts[pd.Index(self.names).get_indexer(chrom)] + np.asarray(position)

    def chromosome(self, linear: np.ndarray) -> np.ndarray:
        """Number of the chromosome of positions in the joined genome."""
        return np.searchsorted(self.ends, linear, side="right")


def draw_fragments(
    rng: np.random.Generator,
    cells: pd.DataFrame,
    weights: np.ndarray,
    centers: np.ndarray,
    layout: Layout,
    n_empty: int,
) -> pd.DataFrame:
    """Draw the fragments of one library, of its cells and of empty droplets.

    A cell has two alleles, and fragments of one allele cannot overlap: those that find no allele free are left out.
    So at most two fragments of a cell, and four of a doublet, cover one place.

    Parameters
    ----------
    cells
        Columns cell, fragments (expected number), dying; a doublet has one row for each of its cells.
    weights
        Relative number of fragments of each CRE in each row of `cells`, rows x CREs.
    centers
        Centre of each CRE in the joined genome.
    layout
        The joined genome.
    n_empty
        Number of empty droplets; they get the numbers after the last cell.

    Returns
    -------
    DataFrame by position: start, end (joined genome, half-open), barcode (number of the cell), reads (at least 1).
    """
    totals = rng.poisson(cells["fragments"])
    shares = np.where(cells["dying"].to_numpy()[:, None], SOURCES_DYING, SOURCES_LIVING)
    from_cre, from_shoulder, anywhere = rng.multinomial(totals, shares).T
    chance = weights / weights.sum(axis=1, keepdims=True)
    parts = []
    for numbers, spread, kind in ((from_cre, CRE_SPREAD, "cre"), (from_shoulder, SHOULDER_SPREAD, "background")):
        per_cre = rng.multinomial(numbers, chance)
        row, cre = np.nonzero(per_cre)
        times = per_cre[row, cre]
        middle = np.repeat(centers[cre], times) + spread * rng.standard_normal(times.sum())
        parts.append(_fragments(rng, np.repeat(row, times), middle, kind))
    stray = np.repeat(np.arange(len(cells) + n_empty), np.concatenate([anywhere, rng.poisson(60, n_empty)]))
    middle = rng.uniform(0, layout.ends[-1], len(stray))
    parts.append(_fragments(rng, stray, middle, "background"))
    start, end, row = _on_alleles(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    barcodes = np.concatenate([cells["cell"], cells["cell"].max() + 1 + np.arange(n_empty)])
    return _sorted_unique(rng, start, end, barcodes[row], layout)


def _on_alleles(start: np.ndarray, end: np.ndarray, row: np.ndarray) -> tuple:
    """Put the fragments of each row on its alleles, from left to right, and leave out those that fit on none."""
    order = np.lexsort((start, row))
    start, end, row = start[order], end[order], row[order]
    left, placed = np.arange(len(start)), []
    for _ in range(ALLELES):
        fits = _without_overlap(start[left], end[left], row[left])
        placed.append(left[fits])
        left = left[~fits]
    placed = np.sort(np.concatenate(placed))
    return start[placed], end[placed], row[placed]


def _without_overlap(start: np.ndarray, end: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Choose intervals of each row, sorted by start, of which no two overlap."""
    chosen = np.arange(len(start))
    while True:
        clash = (row[chosen[1:]] == row[chosen[:-1]]) & (start[chosen[1:]] < end[chosen[:-1]])
        if not clash.any():
            return np.isin(np.arange(len(start)), chosen, assume_unique=True)
        # Of a run of clashes only the first goes: without it the next may fit.
        first = clash & ~np.concatenate([[False], clash[:-1]])
        chosen = chosen[np.concatenate([[True], ~first])]


def _fragments(rng: np.random.Generator, row: np.ndarray, middle: np.ndarray, kind: str) -> tuple:
    """Start, end and row of fragments with the nucleosomal length pattern around their middles."""
    component = rng.choice(len(LENGTHS), len(middle), p=LENGTH_SHARES[kind])
    mean, spread = np.array(LENGTHS).T
    length = mean[component] + spread[component] * rng.standard_normal(len(middle))
    length = np.clip(length, SHORTEST, LONGEST).astype(np.int64)
    start = middle.astype(np.int64) - length // 2
    return start, start + length, row


def _sorted_unique(rng: np.random.Generator, start, end, barcode, layout: Layout) -> pd.DataFrame:
    """Sort by position, drop what crosses the end of a chromosome, merge what is the same molecule twice."""
    inside = start >= 0
    inside &= end <= layout.ends[-1]
    start, end, barcode = start[inside], end[inside], barcode[inside]
    inside = layout.chromosome(start) == layout.chromosome(end - 1)
    start, end, barcode = start[inside], end[inside], barcode[inside]
    # Start, then length and barcode, in one integer: one sort instead of three.
    within = (end - start) * (barcode.max() + 1) + barcode
    order = np.argsort(start * (within.max() + 1) + within, kind="stable")
    table = pd.DataFrame({"start": start[order], "end": end[order], "barcode": barcode[order]})
    same = (table.diff() == 0).all(axis=1).to_numpy()
    table = table[~same].reset_index(drop=True)
    return table.assign(reads=1 + rng.poisson(MEAN_EXTRA_READS, len(table)))
