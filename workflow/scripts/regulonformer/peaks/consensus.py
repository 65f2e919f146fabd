"""One set of non-overlapping peaks for all libraries.

Peaks come from libraries or, where they are called per group of cells, from groups: both are called sets here.
"""

import logging

import numpy as np
import pandas as pd

from regulonformer.io.peaks import as_ranges, merge_overlapping, peak_names, read_bed, sort_peaks


def given_peaks(libraries: dict, files: dict) -> dict[str, pd.DataFrame]:
    """Find the peaks that libraries come with: those of their peak file, else those of their matrix.

    Parameters
    ----------
    libraries
        Library -> MuData from the ingest.
    files
        Library -> BED or narrowPeak file, for those that have one.

    Returns
    -------
    dict
        Library -> peaks, without the libraries that have none.
    """
    sets = {}
    for name, data in libraries.items():
        if name in files:
            sets[name] = read_bed(files[name])
            if "summit" not in sets[name]:
                logging.info("%s has no summits: its peaks are centred on their middle", files[name])
        elif "atac" in data.mod:
            place = data["atac"].var[["chrom", "start", "end"]].reset_index(drop=True)
            sets[name] = place.astype({"chrom": str})
    return sets


def same_peaks(sets: list[pd.DataFrame]) -> bool:
    """Whether all sets hold the same intervals, in whatever order."""
    names = [set(peak_names(peaks)) for peaks in sets]
    return all(other == names[0] for other in names[1:])


def is_disjoint(peaks: pd.DataFrame) -> bool:
    """Whether no two peaks share a base."""
    return len(merge_overlapping(peaks)) == len(peaks)


def consensus_peaks(
    sets: dict[str, pd.DataFrame],
    *,
    width: int,
    min_sets: int = 1,
    lengths: dict[str, int] | None = None,
    blacklist: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Merge peak sets into non-overlapping peaks of one width, best first.

    Every peak is set to `width` around its summit (its centre where none is given). Peaks that stick out of their
    chromosome or share a base with the blacklist go first, so that they cannot displace a good one. Then the peak with
    the best score is kept, all that overlap it go, and so on until every peak is kept or gone.

    Scores are compared between sets by their quantile within the set, as ArchR does (`groupScoreQuantile`): MACS3's
    -log10 q grows with depth, and a deep set would win everywhere. The older score per million (each score over the sum
    of its set) is not used, because it lets a set win by having few peaks. Ties go to the peak found in more sets, then
    to the first in order.

    Parameters
    ----------
    sets
        Library or group -> table with chrom, start, end and, if known, score and summit (bp from start; negative for
        none).
    width
        Width of every peak (bp).
    min_sets
        Peaks that overlap the peaks of fewer sets are left out.
    lengths
        Length (bp) of every chromosome, or None where the genome is not known.
    blacklist
        Regions with chrom, start, end, or None.

    Returns
    -------
    pandas.DataFrame
        chrom, start, end, score (number of sets), sorted.
    dict
        Counts of what was left out.

    References
    ----------
    Corces et al. 2018, Science 362:eaav1898 (iterative overlap peak merging); Granja et al. 2021, Nat. Genet. 53:403
    (ArchR, quantiles of scores).
    """
    sets = {name: table for name, table in sets.items() if len(table)}
    peaks = pd.concat([_fixed_width(table, width) for table in sets.values()], ignore_index=True)
    n_before = len(peaks)
    inside = peaks["start"] >= 0
    if lengths is not None:
        # On a chromosome that the genome lacks the length is NaN, which no end is below.
        inside &= peaks["end"] <= peaks["chrom"].map(lengths)
    peaks, n_blacklisted = remove_blacklisted(peaks[inside].reset_index(drop=True), blacklist)
    peaks["n_sets"] = _support(peaks, sets)
    supported = peaks["n_sets"] >= min_sets
    order = ["rank", "n_sets", "chrom", "start"]
    best = peaks[supported].sort_values(order, ascending=[False, False, True, True], kind="stable", ignore_index=True)
    kept = _best_first(best)
    dropped = {
        "before": n_before,
        "off_chromosome": int((~inside).sum()),
        "blacklisted": n_blacklisted,
        "in_too_few_sets": int((~supported).sum()),
        "overlapping_a_better_one": int(len(best) - len(kept)),
    }
    kept = kept.assign(score=kept["n_sets"])[["chrom", "start", "end", "score"]]
    logging.info("consensus peaks: %d of %d", len(kept), n_before)
    return sort_peaks(kept), dropped


def remove_blacklisted(peaks: pd.DataFrame, blacklist: pd.DataFrame | None) -> tuple[pd.DataFrame, int]:
    """Remove peaks that share a base with a blacklisted region; the rest, and how many went."""
    if blacklist is None or peaks.empty or blacklist.empty:
        return peaks, 0
    hit = as_ranges(peaks, row=np.arange(len(peaks))).overlap(as_ranges(blacklist)).df
    rows = set() if hit.empty else set(hit["row"])
    keep = ~np.isin(np.arange(len(peaks)), list(rows))
    return peaks[keep].reset_index(drop=True), int((~keep).sum())


def clip_to_chromosomes(peaks: pd.DataFrame, lengths: dict[str, int]) -> tuple[pd.DataFrame, dict]:
    """Cut peaks at chromosome ends; drop those that lie beyond, or on a chromosome that the genome lacks."""
    length = peaks["chrom"].map(lengths)
    unknown, beyond = length.isna(), peaks["start"] >= length
    clipped = peaks["end"] > length
    keep = ~unknown & ~beyond
    result = peaks[keep].copy()
    result["end"] = np.minimum(result["end"], length[keep]).astype(np.int64)
    counts = {"unknown_chromosome": unknown, "beyond_chromosome": beyond, "clipped_at_end": clipped & keep}
    return result.reset_index(drop=True), {name: int(rows.sum()) for name, rows in counts.items()}


def _fixed_width(peaks: pd.DataFrame, width: int) -> pd.DataFrame:
    """Peaks of one width, with the quantile of their score in (0, 1] (1 for all where there are no scores)."""
    summit = peaks["start"] + (peaks["end"] - peaks["start"]) // 2
    if "summit" in peaks:
        summit = summit.where(peaks["summit"] < 0, peaks["start"] + peaks["summit"])
    score = (
        pd.to_numeric(peaks["score"], errors="coerce").fillna(0.0) if "score" in peaks else pd.Series(0.0, peaks.index)
    )
    table = {
        "chrom": peaks["chrom"].astype(str),
        "start": summit - width // 2,
        "rank": score.rank(method="max", pct=True),
    }
    fixed = pd.DataFrame(table)
    return fixed.assign(end=fixed["start"] + width)


def _support(peaks: pd.DataFrame, sets: dict[str, pd.DataFrame]) -> np.ndarray:
    """Count, for each row, the sets with a peak that overlaps it."""
    support, ranges = np.zeros(len(peaks), np.int64), as_ranges(peaks, row=np.arange(len(peaks)))
    for table in sets.values():
        hit = ranges.overlap(as_ranges(table)).df
        if not hit.empty:
            support[hit["row"].unique()] += 1
    return support


def _best_first(peaks: pd.DataFrame) -> pd.DataFrame:
    """Greedy choice, best row first. Clusters of touching peaks do not see each other, so all are done in one round."""
    kept = []
    while not peaks.empty:
        clusters = as_ranges(peaks, row=np.arange(len(peaks))).cluster(slack=-1).df
        best = peaks.iloc[np.sort(clusters.groupby("Cluster")["row"].min().to_numpy())]
        kept.append(best)
        gone = as_ranges(peaks, row=np.arange(len(peaks))).overlap(as_ranges(best)).df["row"]
        peaks = peaks[~np.isin(np.arange(len(peaks)), gone)].reset_index(drop=True)
    return pd.concat(kept, ignore_index=True) if kept else peaks
