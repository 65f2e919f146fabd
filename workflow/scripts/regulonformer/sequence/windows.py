"""Which stretches of the genome belong to a gene: windows around its TSSs, and the elements linked to it."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from regulonformer.io.peaks import peak_names

KINDS = ("tss", "element")


class GeneWindows(NamedTuple):
    """Windows of all genes; a window that several genes share is there once.

    Attributes
    ----------
    windows
        chrom, start, end (0-based, half-open; all of one length) and name.
    pairs
        window (row of `windows`), symbol, kind (`tss` or `element`): one row per gene and window.
    """

    windows: pd.DataFrame
    pairs: pd.DataFrame


def gene_windows(elements: pd.DataFrame, tss: pd.DataFrame, length: int) -> GeneWindows:
    """Windows of every gene that has a TSS or an element.

    An element whose window holds a TSS of its gene stands for both: the window is centred on the element and of kind
    `tss`.

    Parameters
    ----------
    elements
        chrom, start, end, symbol, as the corpus lists them.
    tss
        chrom, tss, symbol.
    length
        Length of every window in bp.
    """
    around_tss = pd.DataFrame(
        {"chrom": tss["chrom"], "start": tss["tss"], "end": tss["tss"] + 1, "symbol": tss["symbol"], "kind": "tss"}
    )
    covered = _covering(centred(elements, length).assign(symbol=elements["symbol"]), tss)
    kinds = np.where(covered[0], "tss", "element")
    parts = [around_tss[~covered[1]], elements[["chrom", "start", "end", "symbol"]].assign(kind=kinds)]
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(**centred(table, length)[["start", "end"]])
    names = peak_names(table)
    windows = table.assign(name=names)[["chrom", "start", "end", "name"]].drop_duplicates("name")
    windows = windows.sort_values(["chrom", "start"], ignore_index=True)
    row = pd.Index(windows["name"]).get_indexer(names)
    pairs = table.assign(window=row)[["window", "symbol", "kind"]].drop_duplicates(["window", "symbol"])
    return GeneWindows(windows, pairs.sort_values(["window", "symbol"], ignore_index=True))


def centred(intervals: pd.DataFrame, length: int) -> pd.DataFrame:
    """Windows of one length about the middle of intervals: chrom, start, end."""
    start = (intervals["start"] + intervals["end"]) // 2 - length // 2
    return pd.DataFrame({"chrom": intervals["chrom"].to_numpy(), "start": start, "end": start + length})


def _covering(windows: pd.DataFrame, tss: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Which windows of elements hold a TSS of their own gene, and which TSSs lie in such a window."""
    place = windows.reset_index(drop=True).assign(element=np.arange(len(windows)))
    both = place.merge(tss.assign(row=np.arange(len(tss)))[["chrom", "tss", "symbol", "row"]], on=["chrom", "symbol"])
    both = both[(both["start"] <= both["tss"]) & (both["tss"] < both["end"])]
    covers, is_covered = np.zeros(len(windows), bool), np.zeros(len(tss), bool)
    covers[both["element"]] = True
    is_covered[both["row"]] = True
    return covers, is_covered


def overlapping(windows: pd.DataFrame, chrom: str, start: int, end: int) -> np.ndarray:
    """Rows of the windows that an interval (0-based, half-open) overlaps."""
    hit = (windows["chrom"] == chrom) & (windows["start"] < end) & (windows["end"] > start)
    return np.flatnonzero(hit)
