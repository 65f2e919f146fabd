"""Element-gene pairs that were tested, and the peaks and links that stand for them."""

import logging

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.io.peaks import as_ranges

COLUMNS = ("chrom", "start", "end", "gene", "truth")
# The ENCODE CRISPR benchmark's names of the same (Gschwind et al. 2023, doi:10.1101/2023.11.09.563812).
BENCHMARK = dict(zip(("chrom", "chromStart", "chromEnd", "measuredGeneSymbol", "Regulated"), COLUMNS, strict=True))
TRUTH = {"true": True, "1": True, "false": False, "0": False}


def read_elements(path) -> pd.DataFrame:
    """Read tested element-gene pairs, plain or gzip: chrom, start, end, gene, truth.

    The table of the ENCODE CRISPR benchmark is read as it comes: chrom, chromStart, chromEnd, measuredGeneSymbol,
    Regulated; its pairs whose `ValidConnection` is not TRUE (the element holds the gene's promoter, for instance) are
    left out and counted.

    Raises
    ------
    InputError
        If a column is missing, `truth` is neither true nor false, or a position is no number.
    """
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    if "measuredGeneSymbol" in table:
        valid = table.get("ValidConnection", pd.Series("TRUE", table.index)).str.upper() == "TRUE"
        if not valid.all():
            logging.info("%s: %d pairs that are no valid connection are left out", path, (~valid).sum())
        table = table[valid].rename(columns=BENCHMARK)
    if missing := [name for name in COLUMNS if name not in table]:
        fix = f"Give a TSV with {', '.join(COLUMNS)}, or the CRISPR benchmark with {', '.join(BENCHMARK)}"
        raise InputError(path, f"has no column {missing[0]}", fix)
    truth = table["truth"].str.lower().map(TRUTH)
    if truth.isna().any():
        raise InputError(path, f"truth is {table.loc[truth.isna(), 'truth'].iloc[0]!r}", "Write true or false")
    positions = table[["start", "end"]].apply(pd.to_numeric, errors="coerce")
    if positions.isna().any(axis=None):
        wrong = table.loc[positions.isna().any(axis=1), ["start", "end"]].iloc[0]
        raise InputError(path, f"start, end are {wrong.tolist()}", "Write positions as whole numbers")
    return table[["chrom", "gene"]].assign(truth=truth.astype(bool), **positions.astype(np.int64))[list(COLUMNS)]


def overlapping_links(elements: pd.DataFrame, links: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    """All pairs of an element and a link of the same gene whose peak overlaps it.

    Parameters
    ----------
    elements
        chrom, start, end, gene.
    links
        peak, gene.
    peaks
        chrom, start, end, by peak name.

    Returns
    -------
    pandas.DataFrame
        element, link: row numbers.
    """
    left = as_ranges(elements, element=np.arange(len(elements)))
    joined = left.join(as_ranges(peaks, peak=np.arange(len(peaks)))).df
    if joined.empty:
        return pd.DataFrame({"element": [], "link": []}, dtype=np.int64)
    pairs = pd.DataFrame({"element": joined["element"], "peak": peaks.index.to_numpy()[joined["peak"]]})
    pairs["gene"] = elements["gene"].to_numpy()[pairs["element"]]
    numbered = links[["peak", "gene"]].assign(link=np.arange(len(links)))
    return pairs.merge(numbered, on=["peak", "gene"])[["element", "link"]]


def best_of_elements(elements: pd.DataFrame, links: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    """Tested pairs that have a link, each with the best that any of its links offers to every method.

    Returns
    -------
    pandas.DataFrame
        gene, truth, score (largest), distance (smallest, without sign), correlation (largest, without sign),
        is_promoter (any).
    """
    found = overlapping_links(elements, links, peaks)
    rows = links.iloc[found["link"]][["score", "distance", "correlation", "is_promoter"]].reset_index(drop=True)
    rows = rows.assign(distance=rows["distance"].abs(), correlation=rows["correlation"].abs())
    best = {"score": "max", "distance": "min", "correlation": "max", "is_promoter": "max"}
    table = rows.groupby(found["element"].to_numpy()).agg(best)
    return table.assign(**{name: elements[name].to_numpy()[table.index] for name in ("gene", "truth")})
