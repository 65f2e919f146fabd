"""Candidate links: which peaks lie near which gene, how far away, and in whose promoter."""

import numpy as np
import pandas as pd

from regulonformer.io.peaks import as_ranges
from regulonformer.io.store import read_parquet

# Promoter: from 1,500 bp upstream to 500 bp downstream of a TSS.
UPSTREAM_BP, DOWNSTREAM_BP = 1500, 500


# Columns of a table of links, beside its names of peaks and genes.
_NUMBERS = ("distance", "correlation", "z", "p_value", "fdr", "proximity", "score")


def read_links(path) -> pd.DataFrame:
    """Read a table of links; a run without ATAC has none (None or an empty path), and no links."""
    return read_parquet(path) if path else empty_links()


def empty_links() -> pd.DataFrame:
    """Table of no links."""
    names = {name: pd.Series(dtype=object) for name in ("peak", "gene")}
    numbers = {name: pd.Series(dtype=float) for name in _NUMBERS}
    return pd.DataFrame(names | numbers | {"is_promoter": pd.Series(dtype=bool)})


def gene_starts(genes: pd.DataFrame, tss: pd.DataFrame | None = None) -> pd.DataFrame:
    """All transcription start sites of the genes of a matrix.

    Parameters
    ----------
    genes
        chrom ("" if unknown: no start), tss, strand; annotation_id or gene_id where there is a table of starts.
    tss
        Starts of the annotation: gene_id, chrom, tss, strand (see `io.annotation`); or None. A gene that it lacks keeps
        its own tss.

    Returns
    -------
    pandas.DataFrame
        gene (row number), chrom, tss, strand; sorted by gene and tss.
    """
    genes = genes.reset_index(drop=True)
    placed = (genes["chrom"].astype(str) != "") & genes["tss"].notna()
    own = genes.loc[placed, ["chrom", "tss", "strand"]].rename_axis("gene").reset_index()
    own = own.astype({"chrom": str, "tss": np.int64, "strand": str})
    if tss is None:
        return own
    name = "annotation_id" if "annotation_id" in genes else "gene_id"
    keys = genes.loc[placed, [name]].rename_axis("gene").reset_index().rename(columns={name: "gene_id"})
    keys["chrom"] = own["chrom"]
    starts = keys.astype(str).astype({"gene": np.int64}).merge(tss.astype({"gene_id": str, "chrom": str}))
    lacking = own[~own["gene"].isin(starts["gene"])]
    starts = pd.concat([starts[own.columns], lacking]).drop_duplicates(["gene", "tss"])
    return starts.sort_values(["gene", "tss"], ignore_index=True)


def candidate_pairs(starts: pd.DataFrame, peaks: pd.DataFrame, window_bp: int) -> pd.DataFrame:
    """All peaks whose centre lies within a window around a TSS of a gene, on the same chromosome.

    Parameters
    ----------
    starts
        gene, chrom, tss, strand; several rows per gene allowed (see `gene_starts`).
    peaks
        chrom, start, end.
    window_bp
        Largest distance, in bp.

    Returns
    -------
    pandas.DataFrame
        peak, gene (row numbers), distance (bp from the nearest TSS of the gene to the peak's centre, positive
        downstream in the direction of transcription), is_promoter (of any TSS of the gene); sorted by gene and peak.
    """
    peaks = peaks.reset_index(drop=True)
    centre = (peaks["start"] + peaks["end"]) // 2
    points = pd.DataFrame({"chrom": peaks["chrom"], "start": centre, "end": centre + 1})
    site = starts["tss"].to_numpy()
    windows = {"start": np.maximum(site - window_bp, 0), "end": site + window_bp + 1}
    joined = pd.DataFrame()
    if len(starts) and len(points):
        ranges = as_ranges(pd.DataFrame({"chrom": starts["chrom"], **windows}), row=np.arange(len(starts)))
        joined = ranges.join(as_ranges(points, peak=peaks.index.to_numpy())).df
    if joined.empty:
        empty = {"peak": np.int64, "gene": np.int64, "distance": np.int64, "is_promoter": bool}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in empty.items()})
    row, peak = joined["row"].to_numpy(), joined["peak"].to_numpy(np.int64)
    direction = np.where(starts["strand"].to_numpy()[row] == "-", -1, 1)
    first, last = (
        direction * (peaks[side].to_numpy()[peak] - shift - site[row]) for side, shift in (("start", 0), ("end", 1))
    )
    pairs = pd.DataFrame({"peak": peak, "gene": starts["gene"].to_numpy(np.int64)[row]})
    pairs["distance"] = direction * (centre.to_numpy()[peak] - site[row])
    pairs["is_promoter"] = (np.maximum(first, last) >= -UPSTREAM_BP) & (np.minimum(first, last) <= DOWNSTREAM_BP)
    return _nearest_start(pairs)


def _nearest_start(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per pair: the distance to the nearest TSS, and whether any has the peak in its promoter."""
    order = pairs.assign(reach=pairs["distance"].abs()).sort_values(["gene", "peak", "reach", "distance"])
    promoter = order.groupby(["gene", "peak"])["is_promoter"].transform("any")
    nearest = order.assign(is_promoter=promoter).drop_duplicates(["gene", "peak"])
    return nearest.drop(columns="reach").reset_index(drop=True)
