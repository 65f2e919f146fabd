"""Probability that a motif site is used, from the strength of the site and how the TF goes with the peak."""

import numpy as np
from scipy import sparse

from regulonformer.prior.two_groups import Source, fit_two_groups, standardise_to_null, upper_tail

# Strata of sites: quarters of -log10 p between these; from FULL on a site counts in full before any data.
WEAKEST, STRONGEST, STEP, FULL = 4.0, 10.0, 0.25, 8.0
MAX_NULL = 5_000_000


def fit_sites(scores: sparse.csr_matrix, tfs: np.ndarray, peaks: np.ndarray) -> tuple[sparse.csr_matrix, dict]:
    """Learn how often a site of some strength is used, and give every site that probability.

    If sites are used, a TF goes with the accessibility of peaks that carry its site more than with others; how much
    more at each strength tells the share of used sites (two groups, see `fit_two_groups`). Only this share is passed
    on: the association of a single TF and peak would return in that of TF and gene, and count twice.

    Parameters
    ----------
    scores
        TFs x peaks: -log10 p of the best site.
    tfs, peaks
        TFs x components and peaks x components, unit length (see `association.denoise`).

    Returns
    -------
    probability
        TFs x peaks, csr: probability that the site is used.
    strata
        minus_log10_p (lower edges), share, sites: one entry per stratum.
    """
    edges = np.arange(WEAKEST, STRONGEST + STEP, STEP)
    lower = np.append(min(WEAKEST, scores.data.min(initial=WEAKEST)), edges[1:])
    stratum = 1 + np.clip(np.digitize(scores.data, edges) - 1, 0, len(edges) - 1)
    start = np.append(0, np.minimum((lower + STEP / 2) / FULL, 1) ** 3)
    with_site, null = _associations(scores, tfs, peaks)
    model = fit_two_groups([Source(stratum, start)], upper_tail(with_site, null), len(null))
    share = model.share[0]
    probability = sparse.csr_matrix((share[stratum], scores.indices, scores.indptr), shape=scores.shape)
    sites = np.bincount(stratum, minlength=len(start))[1:]
    strata = {"minus_log10_p": lower.tolist(), "share": share[1:].round(6).tolist(), "sites": sites.tolist()}
    return probability, strata


def _associations(scores, tfs, peaks) -> tuple[np.ndarray, np.ndarray]:
    """|z| of TF and peak: of all sites in the order of `scores.data`, and of every n-th pair without a site."""
    every = 1 + tfs.shape[0] * peaks.shape[0] // MAX_NULL
    found, null, varies = np.empty(scores.nnz), [], peaks.any(axis=1)
    for row, vector in enumerate(tfs):
        span = slice(scores.indptr[row], scores.indptr[row + 1])
        without = np.ones(len(peaks), dtype=bool)
        without[scores.indices[span]] = False
        correlation = peaks @ vector
        z = np.abs(standardise_to_null(correlation, without & varies, peaks.shape[1]))
        # Of a silent TF or peak association says nothing.
        z = np.where(correlation == 0, np.nan, z)
        found[span] = z[scores.indices[span]]
        null.append(z[without & (correlation != 0)][::every])
    return found, np.concatenate(null) if null else np.empty(0)
