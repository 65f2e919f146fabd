"""Quality of every barcode in both modalities, and which barcodes are kept as cells, and why others are not."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import median_abs_deviation

MIN_CELLS_FOR_DOUBLETS = 50
# Scrublet's automatic threshold sits between two modes; where there are none it can call most cells doublets.
MAX_DOUBLET_SHARE = 0.2

# setting, metric, side, reason
FIXED = [
    ("min_umis", "n_counts_rna", "low", "low_counts_rna"),
    ("min_genes", "n_genes", "low", "low_genes"),
    ("max_pct_mito", "pct_mito", "high", "high_mito"),
    ("min_fragments", "n_fragments", "low", "low_fragments"),
    ("min_tss_enrichment", "tss_enrichment", "low", "low_tss"),
    ("max_nucleosome_signal", "nucleosome_signal", "high", "high_nucleosome"),
    ("min_frip", "frip", "low", "low_frip"),
    ("min_peaks", "n_peaks", "low", "low_peaks"),
]
OUTLIERS = {
    "n_counts_rna": "counts_rna",
    "n_genes": "genes",
    "n_fragments": "fragments",
    "n_counts_atac": "counts_atac",
}


def rna_metrics(rna) -> pd.DataFrame:
    """Measure counts, detected genes and mitochondrial share (percent) per barcode, by scanpy.

    Parameters
    ----------
    rna
        AnnData of raw counts; mitochondrial genes start with "mt-" in any case.

    Returns
    -------
    pandas.DataFrame
        n_counts_rna, n_genes, pct_mito by barcode.
    """
    import scanpy as sc

    rna.var["mitochondrial"] = rna.var_names.str.lower().str.startswith("mt-")
    metrics, _ = sc.pp.calculate_qc_metrics(rna, qc_vars=["mitochondrial"], percent_top=None, log1p=False)
    del rna.var["mitochondrial"]
    table = {
        "n_counts_rna": metrics["total_counts"].astype(np.int64),
        "n_genes": metrics["n_genes_by_counts"].astype(np.int64),
        "pct_mito": metrics["pct_counts_mitochondrial"].fillna(0.0).astype(float),
    }
    return pd.DataFrame(table, index=rna.obs_names)


def matrix_atac_metrics(atac) -> pd.DataFrame:
    """Measure counts and detected peaks per barcode, from a peak matrix."""
    counts = np.asarray(atac.X.sum(axis=1)).ravel().astype(np.int64)
    return pd.DataFrame({"n_counts_atac": counts, "n_peaks": np.diff(atac.X.indptr).astype(np.int64)}, atac.obs_names)


def doublet_scores(rna, *, seed: int, threshold: float | None) -> tuple[np.ndarray, float | None, str]:
    """Scrublet doublet scores of the barcodes, and the threshold above which one is called a doublet.

    Parameters
    ----------
    rna
        AnnData of raw counts.
    seed
        Seed of the simulated doublets.
    threshold
        Score to use; None for Scrublet's automatic one, which is used only if it calls at most a fifth of the barcodes.

    Returns
    -------
    numpy.ndarray
        Score in [0, 1] of each barcode.
    float or None
        Threshold; None where there is no usable one.
    str
        What was done, in words.

    References
    ----------
    Wolock et al. 2019, Cell Systems 8:281; https://scanpy.readthedocs.io (scanpy.pp.scrublet).
    """
    import scanpy as sc
    from threadpoolctl import threadpool_limits

    work = rna.copy()
    work.X = work.X.astype(np.float32)
    sc.pp.filter_genes(work, min_cells=3)
    n_components = min(30, work.n_obs - 1, work.n_vars - 1)
    if work.n_obs < MIN_CELLS_FOR_DOUBLETS or n_components < 2:
        return np.full(rna.n_obs, np.nan), None, f"doublets: not scored, fewer than {MIN_CELLS_FOR_DOUBLETS} cells"
    try:
        # One thread: sums of several differ in their last bits.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            options = {"n_prin_comps": n_components, "use_approx_neighbors": False, "verbose": False}
            sc.pp.scrublet(work, threshold=threshold, random_state=seed, **options)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few variable genes for its filters
        return np.full(rna.n_obs, np.nan), None, f"doublets: Scrublet could not score these cells ({error})"
    scores = work.obs["doublet_score"].to_numpy(float)
    automatic = work.uns["scrublet"].get("threshold")
    return scores, *_doublet_threshold(scores, threshold, automatic)


def _doublet_threshold(scores: np.ndarray, given: float | None, automatic: float | None) -> tuple[float | None, str]:
    if given is not None:
        return given, f"doublets: threshold {given} as configured"
    if automatic is None or not np.isfinite(automatic):
        return None, "doublets: Scrublet found no threshold, none removed; set ingest.max_doublet_score to remove some"
    share = float((scores > automatic).mean())
    if share > MAX_DOUBLET_SHARE:
        problem = f"doublets: Scrublet's threshold {automatic:.3f} calls {share:.0%} of the cells, so none were removed"
        return None, f"{problem}; set ingest.max_doublet_score to remove some"
    return float(automatic), f"doublets: Scrublet's threshold {automatic:.3f} calls {share:.1%} of the cells"


class Judged(NamedTuple):
    """Verdict on the barcodes of a library.

    Attributes
    ----------
    cells
        Metrics, with doublet_score (where it was measured) and reason ("" = kept).
    limits
        metric -> {"low": value or None, "high": value or None}.
    notes
        What was done, in words.
    """

    cells: pd.DataFrame
    limits: dict
    notes: list[str]


def judge_cells(cells: pd.DataFrame, rna, settings: dict) -> Judged:
    """Say for every barcode whether it is kept: thresholds and outliers first, then doublets among those that pass.

    Parameters
    ----------
    cells
        Metrics by cell id, in the order of `rna`.
    rna
        AnnData of raw counts.
    settings
        Config section `ingest`.
    """
    reason, limits = flag_cells(cells, settings)
    cells = cells.assign(reason=reason)
    if not settings.get("doublets", True):
        return Judged(cells, limits, ["doublets: switched off"])
    passed = (reason == "").to_numpy()
    given = settings.get("max_doublet_score")
    scores, threshold, note = doublet_scores(rna[passed], seed=int(settings.get("seed", 0)), threshold=given)
    if np.isfinite(scores).any():
        cells.insert(cells.columns.get_loc("reason"), "doublet_score", np.nan)
        cells.loc[passed, "doublet_score"] = scores
    if threshold is not None:
        limits["doublet_score"] = {"low": None, "high": float(threshold)}
        cells.loc[cells["doublet_score"] > threshold, "reason"] = "doublet"
    return Judged(cells, limits, [note])


def flag_cells(cells: pd.DataFrame, settings: dict) -> tuple[pd.Series, dict]:
    """Say for every barcode why it is not kept; an empty reason means that it is.

    Fixed thresholds come first. The outlier limits, median +- n_mads x MAD of log1p counts (MAD scaled to the standard
    deviation of a normal), are then set from the barcodes that pass them, so that empty droplets cannot move them.

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
    flags = {reason: np.zeros(len(cells), bool) for *_, reason in FIXED}
    limits = {}
    for setting, metric, side, reason in FIXED:
        limit = settings.get(setting)
        # A library with fragments is judged by them; the peak count stands in only where there are none.
        if limit is None or metric not in cells or (metric == "n_peaks" and "n_fragments" in cells):
            continue
        limits.setdefault(metric, {"low": None, "high": None})[side] = limit
        values = cells[metric].to_numpy(float)
        flags[reason] |= values < limit if side == "low" else values > limit
    passed = ~np.logical_or.reduce(list(flags.values()))
    for metric, name in OUTLIERS.items():
        if settings.get("n_mads") is None or metric not in cells:
            continue
        low, high = mad_limits(cells.loc[passed, metric].to_numpy(float), settings["n_mads"])
        values = cells[metric].to_numpy(float)
        flags[f"low_{name}"] = flags.get(f"low_{name}", False) | (values < low)
        flags[f"high_{name}"] = values > high
        known = limits.setdefault(metric, {"low": None, "high": None})
        limits[metric] = {"low": _tighter(max, known["low"], low), "high": _tighter(min, known["high"], high)}
    table = pd.DataFrame(flags, index=cells.index)
    reasons = [",".join(table.columns[row]) for row in table.to_numpy(bool)]
    return pd.Series(reasons, index=cells.index, name="reason", dtype=object), limits


def mad_limits(values: np.ndarray, n_mads: float) -> tuple[float, float]:
    """Limits median +- n_mads x MAD of log1p(values), in the units of values; (-inf, inf) if the MAD is 0."""
    values = np.log1p(values[np.isfinite(values)])
    spread = median_abs_deviation(values, scale="normal") if len(values) else 0.0
    if spread == 0:
        return -np.inf, np.inf
    centre = np.median(values)
    return float(np.expm1(centre - n_mads * spread)), float(np.expm1(centre + n_mads * spread))


def count_reasons(reasons: pd.Series) -> dict[str, int]:
    """Count the barcodes with each reason; a barcode with two reasons is in both."""
    single = reasons[reasons != ""].str.split(",").explode()
    return {str(name): int(n) for name, n in single.value_counts().sort_index().items()}


def _tighter(choose, fixed: float | None, outlier: float) -> float | None:
    """Choose the stricter of a fixed and an outlier limit; None if neither holds."""
    present = [float(limit) for limit in (fixed, outlier) if limit is not None and np.isfinite(limit)]
    return choose(present) if present else None
