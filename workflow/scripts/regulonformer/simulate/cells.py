"""The simulated cells: who they are, how open their CREs are, and how many transcripts of each gene were counted."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.simulate import lineage

ACTIVITY_NOISE = 0.3
AMBIENT_SHARE = 0.05
DROPOUT = 0.25
DISPERSION = 0.35
DONOR_SPREAD = 0.15
TF_RESPONSE = 2.4
OPENING = 1.2


class Parameters(NamedTuple):
    """What all donors share.

    Attributes
    ----------
    log_base
        Log expression of each gene without its TFs; genes.
    is_mito
        Whether a gene is mitochondrial; genes.
    cre_floor
        Openness of each CRE without TFs, in [0, 1]; CREs.
    cre_size
        Relative number of fragments of a CRE when fully open; CREs.
    """

    log_base: np.ndarray
    is_mito: np.ndarray
    cre_floor: np.ndarray
    cre_size: np.ndarray


def draw_parameters(rng: np.random.Generator, genes: pd.DataFrame, cres: pd.DataFrame, n_tfs: int) -> Parameters:
    """Draw base expression and base accessibility."""
    log_base = rng.normal(0, 1.0, len(genes))
    # TFs are low where they are inactive and no rare transcripts where they are active.
    log_base[:n_tfs] = rng.normal(-1.2, 0.3, n_tfs)
    kind = cres["kind"].to_numpy()
    floor = np.select([kind == "promoter", kind == "decoy"], [0.45, rng.uniform(0.1, 0.6, len(cres))], 0.08)
    size = np.select([kind == "promoter"], [1.8], 1.0) * rng.lognormal(0, 0.4, len(cres))
    return Parameters(log_base, (genes["chrom"] == "chrM").to_numpy(), floor, size)


def draw_cells(rng: np.random.Generator, settings: dict) -> pd.DataFrame:
    """Draw the cells of one library; a doublet is two rows with one number.

    Parameters
    ----------
    settings
        Keys cells_per_library, doublet_rate, dying_rate, knockout_share, mean_umis, mean_fragments.

    Returns
    -------
    DataFrame: cell (0 .. cells_per_library - 1), state, pseudotime, phase, doublet, dying, knockout, umis, fragments
    (expected counts of the row).
    """
    n = settings["cells_per_library"]
    roles = rng.permutation(n)
    n_doublets, n_dying = (round(settings[rate] * n) for rate in ("doublet_rate", "dying_rate"))
    doublets = np.sort(roles[:n_doublets])
    number = np.concatenate([np.arange(n), doublets])
    cells = lineage.draw_positions(rng, len(number))
    cells.insert(0, "cell", number)
    cells["doublet"] = np.isin(number, doublets)
    cells["dying"] = np.isin(number, roles[n_doublets : n_doublets + n_dying])
    cells["knockout"] = (rng.random(len(cells)) < settings["knockout_share"]) & ~cells["doublet"]
    # RNA and ATAC of a cell share part of their depth; the library adds its own.
    shared = rng.normal(0, 0.25, len(cells))
    for column, mean, spread in (("umis", "mean_umis", 0.25), ("fragments", "mean_fragments", 0.3)):
        deviation = shared + rng.normal(0, spread, len(cells)) + rng.normal(0, 0.08)
        cells[column] = settings[mean] * np.exp(deviation - (0.25**2 + spread**2) / 2)
    cells.loc[cells["dying"], "umis"] *= rng.uniform(0.12, 0.35, int(cells["dying"].sum()))
    cells.loc[cells["dying"], "fragments"] *= rng.uniform(0.4, 0.9, int(cells["dying"].sum()))
    return cells


def openness(active: np.ndarray, bindings: pd.DataFrame, floor: np.ndarray) -> np.ndarray:
    """Share of the alleles at which a CRE is open, cells x CREs, in [0, 1].

    Parameters
    ----------
    active
        TF activity, cells x TFs.
    bindings
        Columns source (TF) and cre, one row per TF bound.
    floor
        Openness without TFs, one per CRE.
    """
    ones = np.ones(len(bindings))
    binds = sparse.csr_array((ones, (bindings["source"], bindings["cre"])), shape=(active.shape[1], len(floor)))
    return 1 - (1 - floor) * np.exp(-OPENING * (active @ binds))


def log_expression(active: np.ndarray, opened: np.ndarray, placed: pd.DataFrame, log_base: np.ndarray) -> np.ndarray:
    """Log expression of each gene in each cell, cells x genes.

    A TF acts on its target in proportion to its own activity and to the openness of the CRE that carries the edge;
    effects add up on the log scale. A TF's own transcript follows its activity, which already holds the effect of the
    TFs upstream.
    """
    through = active[:, placed["source"]] * opened[:, placed["cre"]]
    n_tfs = active.shape[1]
    effects = sparse.csr_array(
        (placed["effect"], (np.arange(len(placed)), placed["target"])), shape=(len(placed), len(log_base))
    )
    result = log_base + through @ effects
    result[:, :n_tfs] = log_base[:n_tfs] + TF_RESPONSE * active
    return result


def draw_counts(
    rng: np.random.Generator, cells: pd.DataFrame, log_rates: np.ndarray, parameters: Parameters, lost: int
) -> tuple[sparse.csr_array, np.ndarray]:
    """Draw UMI counts: negative binomial with library size, ambient RNA and dropout, doublets added up.

    Parameters
    ----------
    cells
        As `draw_cells` gives them.
    log_rates
        Log expression, rows of `cells` x genes.
    lost
        Number of the knocked-out TF, of which knocked-out cells make no transcript of their own.

    Returns
    -------
    Counts, cells x genes (int32), and the ambient profile of the library, which sums to one.
    """
    rates = np.exp(log_rates + DONOR_SPREAD * rng.standard_normal(log_rates.shape[1]))
    rates[cells["knockout"].to_numpy(), lost] = 0
    mito = np.where(cells["dying"], rng.beta(14, 26, len(cells)), rng.beta(4, 76, len(cells)))
    is_mito = parameters.is_mito
    profile = np.empty_like(rates)
    profile[:, is_mito] = rates[:, is_mito] / rates[:, is_mito].sum(axis=1, keepdims=True) * mito[:, None]
    profile[:, ~is_mito] = rates[:, ~is_mito] / rates[:, ~is_mito].sum(axis=1, keepdims=True) * (1 - mito)[:, None]
    umis = cells["umis"].to_numpy()[:, None]
    ambient = (profile * umis).sum(axis=0) / umis.sum()
    mean = umis * (1 - AMBIENT_SHARE) * profile
    noisy = mean * rng.gamma(1 / DISPERSION, DISPERSION, mean.shape)
    counts = rng.poisson(noisy)
    # Reverse transcription misses rare transcripts altogether more often than counting noise alone says.
    counts[rng.random(mean.shape) < DROPOUT * np.exp(-mean)] = 0
    counts += rng.poisson(umis * AMBIENT_SHARE * ambient)
    rows = sparse.csr_array((np.ones(len(cells), dtype=np.int32), (cells["cell"], np.arange(len(cells)))))
    return sparse.csr_array(rows @ counts.astype(np.int32)), ambient
