"""Quality of every barcode in both modalities, and which barcodes are kept as cells, and why others are not."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import median_abs_deviation

from regulonformer.quality.doublets import find_doublets

# Ribosomal proteins of the cytosol, man and mouse: RPSA, RPLP0, RPS27A, Rpl36al, RPS4Y1; not the kinases RPS6K*.
RIBOSOMAL = r"(?i)^RP(?:SA|LP[0-2]|[SL]\d+[AXL]*(?:Y?\d)?)$"


class Metric(NamedTuple):
    """How a metric is judged.

    Attributes
    ----------
    name
        Column of the cells.
    code
        Its name in reasons, after "low_" or "high_".
    settings
        Side that is bad -> setting with the fixed limit, or None if there is none.
    log
        Whether outliers are judged on the log scale.
    """

    name: str
    code: str
    settings: dict
    log: bool = False


METRICS = (
    Metric("n_counts_rna", "counts_rna", {"low": "min_umis", "high": None}, log=True),
    Metric("n_genes", "genes", {"low": "min_genes", "high": None}, log=True),
    Metric("pct_mito", "mito", {"high": "max_pct_mito"}),
    Metric("pct_ribo", "ribo", {"high": "max_pct_ribo"}),
    Metric("n_fragments", "fragments", {"low": "min_fragments", "high": None}, log=True),
    Metric("tss_enrichment", "tss", {"low": "min_tss_enrichment"}),
    Metric("nucleosome_signal", "nucleosome", {"high": "max_nucleosome_signal"}),
    Metric("frip", "frip", {"low": "min_frip"}),
    Metric("blacklist_share", "blacklist", {"high": "max_blacklist_share"}),
    Metric("duplication_fragments", "duplication", {"high": "max_duplication"}),
    Metric("n_counts_atac", "counts_atac", {"low": None, "high": None}, log=True),
    Metric("n_peaks", "peaks", {"low": "min_peaks"}, log=True),
)
# Metrics whose outliers go by default; `outliers` names others.
OUTLIERS = ("n_counts_rna", "n_genes", "n_fragments", "n_counts_atac")


def rna_metrics(rna) -> pd.DataFrame:
    """Measure counts, detected genes, and mitochondrial and ribosomal share (percent) per barcode, by scanpy.

    Parameters
    ----------
    rna
        AnnData of raw counts, genes by symbol; mitochondrial ones start with "mt-" in any case, ribosomal ones match
        `RIBOSOMAL`.

    Returns
    -------
    pandas.DataFrame
        n_counts_rna, n_genes, pct_mito, pct_ribo by barcode.
    """
    import scanpy as sc

    symbols = rna.var_names.astype(str)
    groups = {"mito": symbols.str.lower().str.startswith("mt-"), "ribo": symbols.str.match(RIBOSOMAL)}
    rna.var[list(groups)] = pd.DataFrame(groups, index=rna.var_names)
    metrics, _ = sc.pp.calculate_qc_metrics(rna, qc_vars=list(groups), percent_top=None, log1p=False)
    rna.var.drop(columns=list(groups), inplace=True)
    table = {
        "n_counts_rna": metrics["total_counts"].astype(np.int64),
        "n_genes": metrics["n_genes_by_counts"].astype(np.int64),
    }
    table |= {f"pct_{group}": metrics[f"pct_counts_{group}"].fillna(0.0).astype(float) for group in groups}
    return pd.DataFrame(table, index=rna.obs_names)


def matrix_atac_metrics(atac) -> pd.DataFrame:
    """Measure counts and detected peaks per barcode, from a peak matrix."""
    counts = np.asarray(atac.X.sum(axis=1)).ravel().astype(np.int64)
    return pd.DataFrame({"n_counts_atac": counts, "n_peaks": np.diff(atac.X.indptr).astype(np.int64)}, atac.obs_names)


class Judged(NamedTuple):
    """Verdict on the barcodes of a library.

    Attributes
    ----------
    cells
        Metrics, with doublet_score and doublet_qvalue (where they were measured) and reason ("" = kept).
    limits
        metric -> {"low": value or None, "high": value or None}.
    overlaps
        The expectation behind doublet_qvalue, or None.
    notes
        What was done, in words.
    """

    cells: pd.DataFrame
    limits: dict
    overlaps: dict | None
    notes: list[str]


def judge_cells(cells: pd.DataFrame, rna, settings: dict) -> Judged:
    """Say for every barcode whether it is kept: thresholds and outliers first, then doublets among those that pass.

    Parameters
    ----------
    cells
        Metrics by cell id, in the order of `rna`.
    rna
        AnnData of raw counts, or None for a library of ATAC alone.
    settings
        Config section `ingest`.
    """
    reason, limits = flag_cells(cells, settings)
    passed = (reason == "").to_numpy()
    found = find_doublets(cells[passed], None if rna is None else rna[passed], settings)
    reason[passed] = _joined(found.called)
    # A barcode that had already gone has no score.
    cells = cells.join(found.scores).assign(reason=reason)
    return Judged(cells, limits | found.limits, found.overlaps, found.notes)


def flag_cells(cells: pd.DataFrame, settings: dict) -> tuple[pd.Series, dict]:
    """Say for every barcode why it is not kept; an empty reason means that it is.

    Fixed thresholds come first. The outlier limits, median +- n_mads x MAD (scaled to the standard deviation of a
    normal; counts on the log1p scale), are then set from the barcodes that pass them, so that empty droplets cannot
    move them. Where both hold, the stricter counts.

    Parameters
    ----------
    cells
        Metrics by barcode; a metric that is absent or NaN removes nothing.
    settings
        Config section `ingest`; a threshold that is None is off.

    Returns
    -------
    pandas.Series
        Comma-joined reason codes of each barcode.
    dict
        metric -> {"low": value or None, "high": value or None}: the limits that held.

    References
    ----------
    Germain et al. 2020, Genome Biology 21:227; https://www.sc-best-practices.org/preprocessing_visualization/quality_control.html
    """
    limits = {metric.name: _fixed_limits(metric, settings) for metric in METRICS if metric.name in cells}
    # A library with fragments is judged by them; the peak count stands in only where there are none.
    if "n_peaks" in limits and "n_fragments" in cells:
        limits["n_peaks"] = {}
    passed = ~_flags(cells, limits).to_numpy(bool).any(axis=1)
    n_mads = dict.fromkeys(OUTLIERS, settings.get("n_mads")) | (settings.get("outliers") or {})
    for metric in METRICS:
        if metric.name in cells and n_mads.get(metric.name) is not None:
            outer = mad_limits(cells.loc[passed, metric.name].to_numpy(float), n_mads[metric.name], log=metric.log)
            limits[metric.name] = _stricter(limits[metric.name], outer, metric)
    flags = _flags(cells, limits)
    held = {name: {"low": None, "high": None} | sides for name, sides in limits.items() if sides}
    return pd.Series(_joined(flags), index=cells.index, name="reason", dtype=object), held


def _fixed_limits(metric: Metric, settings: dict) -> dict:
    given = {side: settings.get(setting) for side, setting in metric.settings.items() if setting}
    return {side: limit for side, limit in given.items() if limit is not None}


def _stricter(fixed: dict, outer: tuple[float, float], metric: Metric) -> dict:
    """Limits of both kinds together, on the sides that are bad."""
    low, high = max(fixed.get("low", -np.inf), outer[0]), min(fixed.get("high", np.inf), outer[1])
    sides = {"low": float(low), "high": float(high)}
    return {side: limit for side, limit in sides.items() if side in metric.settings and np.isfinite(limit)}


def _flags(cells: pd.DataFrame, limits: dict) -> pd.DataFrame:
    """Whether each barcode is beyond each limit, cells x reasons."""
    flags = {}
    for metric in METRICS:
        for side, limit in limits.get(metric.name, {}).items():
            values = cells[metric.name].to_numpy(float)
            flags[f"{side}_{metric.code}"] = values < limit if side == "low" else values > limit
    return pd.DataFrame(flags, index=cells.index, dtype=bool)


def _joined(flags: pd.DataFrame) -> list[str]:
    """Names of the true columns of each row, joined by commas."""
    return [",".join(flags.columns[row]) for row in flags.to_numpy(bool)]


def mad_limits(values: np.ndarray, n_mads: float, *, log: bool = True) -> tuple[float, float]:
    """Limits median +- n_mads x MAD, in the units of values; (-inf, inf) if the MAD is 0.

    Parameters
    ----------
    values
        Metric of the barcodes of a library; NaN is left out.
    n_mads
        Number of median absolute deviations, each scaled to the standard deviation of a normal.
    log
        Whether median and MAD are those of log1p(values).
    """
    values = values[np.isfinite(values)]
    values = np.log1p(values) if log else values
    spread = median_abs_deviation(values, scale="normal") if len(values) else 0.0
    if spread == 0:
        return -np.inf, np.inf
    limits = np.median(values) + np.array([-n_mads, n_mads]) * spread
    return tuple((np.expm1(limits) if log else limits).tolist())


def count_reasons(reasons: pd.Series) -> dict[str, int]:
    """Count the barcodes with each reason; a barcode with two reasons is in both."""
    single = reasons[reasons != ""].str.split(",").explode()
    return {str(name): int(n) for name, n in single.value_counts().sort_index().items()}
