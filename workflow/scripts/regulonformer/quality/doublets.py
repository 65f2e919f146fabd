"""Doublets: barcodes that hold two cells, told by their RNA and by ATAC fragments that one cell cannot have."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, nbinom

MIN_CELLS = 50
# A call of more than this share of the cells says that the method does not fit the data, not that they are doublets.
MAX_SHARE = 0.2
# Barcodes that may be doublets have no say in what single cells look like. Fewer (those of a small q-value) let weak
# doublets widen the expectation until nobody is called; more (0.05) make it too narrow.
UNUSUAL, MAX_ROUNDS = 0.01, 20
MIN_DISPERSION = 1e-6  # a negative binomial this close to a Poisson distribution is one


class Doublets(NamedTuple):
    """What both signals say.

    Attributes
    ----------
    scores
        doublet_score (RNA) and doublet_qvalue (ATAC), those that were measured, by cell.
    called
        doublet_rna and doublet_atac, bool by cell, of the same signals.
    limits
        metric -> {"low": value or None, "high": value or None}.
    overlaps
        The expectation that the ATAC signal was held against (`OverlapTest`), or None.
    notes
        What was done, in words.
    """

    scores: pd.DataFrame
    called: pd.DataFrame
    limits: dict
    overlaps: dict | None
    notes: list[str]


class OverlapTest(NamedTuple):
    """Test of the number of overlap sites of each barcode.

    Attributes
    ----------
    qvalue
        Benjamini-Hochberg q-value per barcode.
    called
        Whether it is at most the limit.
    rate
        Expected sites of a singlet over its squared number of fragments.
    dispersion
        Of the negative binomial: variance = mean + dispersion * mean^2.
    p_cut
        Largest p-value that was called; None if none was.
    """

    qvalue: np.ndarray
    called: np.ndarray
    rate: float
    dispersion: float
    p_cut: float | None


def find_doublets(cells: pd.DataFrame, rna, settings: dict) -> Doublets:
    """Look for doublets among the barcodes that passed all other limits.

    Parameters
    ----------
    cells
        Metrics by cell id; n_overlap_sites and n_overlap_fragments are needed for the ATAC signal.
    rna
        AnnData of raw counts of the same cells, or None where there are none.
    settings
        Config section `ingest`: doublets (True for every signal there is, "rna", "atac" or False),
        max_doublet_score, max_doublet_qvalue, seed.
    """
    wanted = settings.get("doublets", True)
    if not wanted or len(cells) < MIN_CELLS:
        why = f"not looked for, fewer than {MIN_CELLS} cells" if wanted else "switched off"
        return _nothing(cells.index, f"doublets: {why}")
    parts = []
    if wanted in (True, "rna"):
        parts.append(_by_rna(cells.index, rna, settings))
    if wanted in (True, "atac"):
        parts.append(_by_atac(cells, settings.get("max_doublet_qvalue")))
    tables = [pd.concat([getattr(part, field) for part in parts], axis=1) for field in ("scores", "called")]
    limits = {metric: sides for part in parts for metric, sides in part.limits.items()}
    return Doublets(*tables, limits, parts[-1].overlaps, [note for part in parts for note in part.notes])


def _nothing(index: pd.Index, note: str) -> Doublets:
    return Doublets(pd.DataFrame(index=index), pd.DataFrame(index=index), {}, None, [note])


def _by_rna(index: pd.Index, rna, settings: dict) -> Doublets:
    if rna is None:
        return _nothing(index, "doublets by RNA: not looked for, the library has no genes")
    seed, given = int(settings.get("seed", 0)), settings.get("max_doublet_score")
    scores, threshold, note = scrublet_scores(rna, seed=seed, threshold=given)
    measured = {"doublet_score": scores} if np.isfinite(scores).any() else {}
    called = {} if threshold is None else {"doublet_rna": scores > threshold}
    limits = {} if threshold is None else {"doublet_score": {"low": None, "high": float(threshold)}}
    return Doublets(pd.DataFrame(measured, index), pd.DataFrame(called, index), limits, None, [note])


def _by_atac(cells: pd.DataFrame, max_qvalue: float | None) -> Doublets:
    if max_qvalue is None:
        return _nothing(cells.index, "doublets by ATAC: switched off")
    if "n_overlap_sites" not in cells or cells["n_overlap_sites"].isna().any():
        return _nothing(cells.index, "doublets by ATAC: not looked for, overlapping fragments were not counted")
    test = overlap_test(cells["n_overlap_sites"].to_numpy(), cells["n_overlap_fragments"].to_numpy(), max_qvalue)
    scores = pd.DataFrame({"doublet_qvalue": test.qvalue}, cells.index)
    share = float(test.called.mean())
    note = f"doublets by ATAC: q <= {max_qvalue:g} calls {share:.1%} of the cells"
    if share > MAX_SHARE:
        note += ", so none were removed: their fragments do not overlap like those of diploid cells"
        return _nothing(cells.index, note)._replace(scores=scores)
    called = pd.DataFrame({"doublet_atac": test.called}, cells.index)
    overlaps = {"rate": test.rate, "dispersion": test.dispersion, "p_cut": test.p_cut}
    return Doublets(scores, called, {"doublet_qvalue": {"low": max_qvalue, "high": None}}, overlaps, [note])


def scrublet_scores(rna, *, seed: int, threshold: float | None) -> tuple[np.ndarray, float | None, str]:
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
    try:
        # One thread: sums of several differ in their last bits.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            options = {"n_prin_comps": n_components, "use_approx_neighbors": False, "verbose": False}
            sc.pp.scrublet(work, threshold=threshold, random_state=seed, **options)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few variable genes for its filters
        return np.full(rna.n_obs, np.nan), None, f"doublets by RNA: Scrublet could not score these cells ({error})"
    scores = work.obs["doublet_score"].to_numpy(float)
    automatic = work.uns["scrublet"].get("threshold")
    return scores, *_score_threshold(scores, threshold, automatic)


def _score_threshold(scores: np.ndarray, given: float | None, automatic: float | None) -> tuple[float | None, str]:
    if given is not None:
        return given, f"doublets by RNA: threshold {given} as configured"
    advice = "none removed; set ingest.max_doublet_score to remove some"
    if automatic is None or not np.isfinite(automatic):
        return None, f"doublets by RNA: Scrublet found no threshold, {advice}"
    share = float((scores > automatic).mean())
    calls = f"doublets by RNA: Scrublet's threshold {automatic:.3f} calls {share:.1%} of the cells"
    # It sits between two modes; where there are none it can call most cells.
    return (None, f"{calls}, {advice}") if share > MAX_SHARE else (float(automatic), calls)


def overlap_test(sites: np.ndarray, fragments: np.ndarray, max_qvalue: float) -> OverlapTest:
    """Test whether barcodes have more sites under three or more fragments than singlets of their depth.

    A diploid cell has two copies of each place, so a third fragment there comes from a second cell, or from background:
    repeats, mapping errors, ambient fragments. Background grows with the square of the depth (pairs of fragments) and
    varies more than a Poisson variable, so the sites of singlets are taken as negative binomial with mean
    `rate * fragments^2`. Rate and dispersion (by moments) are estimated again without the barcodes of a p-value below
    `UNUSUAL` until these no longer change, starting from all barcodes under a Poisson distribution.

    Parameters
    ----------
    sites
        Number of sites covered by more than two fragments of the barcode.
    fragments
        Number of fragments of the barcode in which the sites were sought.
    max_qvalue
        Largest q-value of a call.

    References
    ----------
    Thibodeau et al. 2021, Genome Biology 22:252 (AMULET: the signal, and a Poisson test with one mean for all depths).
    """
    sites, depth = np.asarray(sites, float), np.asarray(fragments, float) ** 2
    unusual, dispersion = np.zeros(len(sites), bool), 0.0
    for round_ in range(MAX_ROUNDS):
        usual = ~unusual
        rate = sites[usual].sum() / max(depth[usual].sum(), 1.0)
        mean = rate * depth
        if round_:
            excess = (sites[usual] - mean[usual]) ** 2 - mean[usual]
            dispersion = max(0.0, excess.sum() / max((mean[usual] ** 2).sum(), np.finfo(float).tiny))
        size = 1 / max(dispersion, MIN_DISPERSION)
        pvalue = nbinom.sf(sites - 1, size, size / (size + mean))
        before, unusual = unusual, pvalue <= UNUSUAL
        if round_ and (unusual == before).all():
            break
    qvalue = false_discovery_control(pvalue)
    called = qvalue <= max_qvalue
    p_cut = float(pvalue[called].max()) if called.any() else None
    return OverlapTest(qvalue, called, float(rate), float(dispersion), p_cut)


def fewest_sites(fragments: np.ndarray, overlaps: dict) -> np.ndarray:
    """Fewest sites that were called a doublet at each number of fragments: the cut of `overlap_test`.

    Parameters
    ----------
    fragments
        Numbers of fragments.
    overlaps
        rate, dispersion and p_cut (a number) of an `OverlapTest`.
    """
    mean = overlaps["rate"] * np.asarray(fragments, float) ** 2
    size = 1 / max(overlaps["dispersion"], MIN_DISPERSION)
    p_cut = max(overlaps["p_cut"], np.finfo(float).tiny)
    # isf gives the smallest x with P(X > x) <= p, and a call needs P(X >= sites) <= p.
    return nbinom.isf(p_cut, size, size / (size + mean)) + 1
