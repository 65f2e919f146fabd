"""One simulated library: its cells are drawn in the shared world and written as Cell Ranger ARC would."""

from pathlib import Path

import numpy as np
import pandas as pd

from regulonformer.io.store import write_tsv
from regulonformer.simulate import cells, lineage, tenx
from regulonformer.simulate.fragments import draw_fragments
from regulonformer.simulate.world import World

EMPTY_PER_CELL = 0.4


def write_library(rng: np.random.Generator, world: World, sample: str, folder: Path, settings: dict) -> pd.DataFrame:
    """Draw one library and write ``outs/`` and ``labels.tsv`` into its folder.

    Parameters
    ----------
    rng
        Random generator of this library.
    sample
        Name of the library, which is also the donor.
    settings
        The config section ``simulate``.

    Returns
    -------
    Truth per cell: cell, sample, barcode, state, pseudotime, knockout (symbol of the TF or empty), doublet, dying.
    """
    rows = cells.draw_cells(rng, settings)
    between_tfs = world.edges[world.edges["target"] < len(world.tfs)]
    active = lineage.activity(rng, rows, world.tfs, between_tfs, cells.ACTIVITY_NOISE)
    opened = cells.openness(active, world.bindings, world.parameters.cre_floor)
    log_rates = cells.log_expression(active, opened, world.placed, world.parameters.log_base)
    lost = int(np.flatnonzero(world.tfs["knockout"])[0])
    rna, ambient = cells.draw_counts(rng, rows, log_rates, world.parameters, lost)

    n_cells = settings["cells_per_library"]
    n_empty = round(EMPTY_PER_CELL * n_cells)
    donor = np.exp(cells.DONOR_SPREAD * rng.standard_normal(len(world.cres)))
    centers = world.layout.linear(world.cres["chrom"], (world.cres["start"] + world.cres["end"]) // 2)
    weights = opened * world.parameters.cre_size * donor
    fragments = draw_fragments(rng, rows, weights, centers, world.layout, n_empty)

    # Barcodes of cells are sorted, as in the matrix; empty droplets get the rest.
    pool = rng.permutation(tenx.draw_barcodes(rng, n_cells + n_empty))
    barcodes = np.concatenate([np.sort(pool[:n_cells]), np.sort(pool[n_cells:])])
    truth = _truth(rows, sample, barcodes[:n_cells], world.tfs["symbol"][lost])
    _write_outs(rng, world, sample, folder / "outs", rna, ambient, fragments, barcodes)
    write_tsv(_labels(truth), folder / "labels.tsv")
    return truth


def _write_outs(rng, world: World, sample: str, outs: Path, rna, ambient, fragments, barcodes) -> None:
    outs.mkdir(parents=True, exist_ok=True)
    layout, n_cells = world.layout, rna.shape[0]
    peaks = tenx.draw_peaks(rng, world.cres)
    cut_sites = tenx.count_peaks(fragments, peaks, layout, len(barcodes))
    borders = tuple(layout.linear(peaks["chrom"], peaks[side]) for side in ("start", "end"))
    nuclear = world.genes[world.genes["chrom"] != "chrM"]
    tss = np.sort(layout.linear(nuclear["chrom"], nuclear["tss"]))
    metrics = tenx.barcode_metrics(rng, barcodes, rna, ambient, fragments, cut_sites, tss, borders)
    tenx.write_matrix(
        outs / "filtered_feature_bc_matrix.h5", rna, cut_sites[:n_cells], world.genes, peaks, barcodes[:n_cells], sample
    )
    tenx.write_fragments(outs / "atac_fragments.tsv.gz", fragments, layout, barcodes, sample)
    tenx.write_peaks(outs / "atac_peaks.bed", peaks, layout, sample)
    metrics.sort_values("barcode").to_csv(outs / "per_barcode_metrics.csv", index=False, lineterminator="\n")


def _truth(rows: pd.DataFrame, sample: str, barcodes: np.ndarray, knocked_out: str) -> pd.DataFrame:
    """One row per cell; the state of a doublet names both of its cells, and its pseudotime is empty."""
    first = rows.drop_duplicates("cell").sort_values("cell")
    names = pd.Series(np.array(lineage.STATE_NAMES)[rows["state"]], index=rows.index)
    doublet = first["doublet"].to_numpy()
    return pd.DataFrame(
        {
            "cell": [f"{sample}_{barcode}" for barcode in barcodes],
            "sample": sample,
            "barcode": barcodes,
            "state": names.groupby(rows["cell"]).agg("+".join).to_numpy(),
            "pseudotime": np.where(doublet, np.nan, first["pseudotime"].round(4)),
            "knockout": np.where(first["knockout"], knocked_out, ""),
            "doublet": doublet,
            "dying": first["dying"].to_numpy(),
        }
    )


def _labels(truth: pd.DataFrame) -> pd.DataFrame:
    """What a biologist would know: the state of each cell that is one cell, and who was knocked out."""
    knockout = np.where(truth["knockout"] == "", "none", truth["knockout"] + "_ko")
    state = truth["state"].mask(truth["doublet"], "")
    return truth[["barcode"]].assign(state=state, knockout=knockout, pseudotime=truth["pseudotime"])
