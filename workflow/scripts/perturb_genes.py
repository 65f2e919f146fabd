"""Knock out and over-express every TF in silico, beside genes that are expressed alike."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from regulonformer.adapt.reader import Reader
from regulonformer.corpus.encoding import log_normalise
from regulonformer.errors import InputError
from regulonformer.explain.perturbation import Perturbations, embedding_shifts, expression_readout
from regulonformer.explain.perturbation_tables import (
    DIRECTIONS,
    EVERY_GROUP,
    PerturbationSettings,
    choose_cells,
    choose_null,
    nearest,
    target_table,
    tf_table,
)
from regulonformer.io.store import read_parquet, write_parquet
from regulonformer.log import rule_log
from regulonformer.model.allocator import keep_freed_memory
from regulonformer.pretrained import load_model

# Cells behind the mean expression and the upper quantile of a gene, at most.
PROFILE_CELLS = 5000
FEWEST_NULL_GENES = 5


def main(*, model, shards, cells, vocabulary, regulons, settings: dict, tfs, targets, shifts, threads=1, gpu=0):
    """Perturb TFs and write how cells answer.

    Parameters
    ----------
    model
        Folder of the pretrained model.
    shards, cells, vocabulary
        The corpus.
    regulons
        Regulon table: its TFs are perturbed, its targets are the direct ones.
    settings
        Section `perturbation`.
    tfs, targets
        Parquet files to write, as `tf_table` and `target_table` give them.
    shifts
        h5ad to write: mean change of the cell embedding (TF, direction and group x width); varm `readout` turns it into
        the change of the log RNA rate of the genes in uns `genes`.
    threads, gpu
        CPU threads; number of GPUs granted (0: stay on the CPU).
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    options, base = PerturbationSettings(**settings), load_model(model)
    base.model.to("cuda" if gpu else "cpu")
    reader, edges = Reader(shards, cells, vocabulary, base.vocabulary), read_parquet(regulons)
    symbols = base.vocabulary["symbol"].to_numpy()
    profile_MN = _values(reader, _some(_eligible(reader.cells, options), PROFILE_CELLS, options.seed))
    tokens = _tfs(edges, symbols, options.max_tfs)
    null = _null(base.vocabulary, edges, profile_MN, tokens, options)
    genes_P, n = np.concatenate([tokens, null]), len(tokens)
    group, rows = _cells(reader, options)
    names, group_C = np.unique(group[rows], return_inverse=True)
    batch, rna_CP = reader.read(rows), _values(reader, rows)[:, genes_P].toarray()
    logging.info("%d TFs and %d null genes in %d cells of %d groups", n, len(null), len(rows), len(names))

    groups, sizes = [*names, EVERY_GROUP], [*np.bincount(group_C), len(rows)]
    if not options.group:  # a single group, which is every cell
        groups, sizes = groups[1:], sizes[1:]
    readout_ND = expression_readout(base.model)
    tf_blocks, target_blocks, kept = [], [], []
    for direction in DIRECTIONS:
        perturbations = Perturbations(
            genes_P,
            *_values_and_slots(direction, base.config["regulons"], symbols, genes_P, n, profile_MN, options),
            close=options.close_accessibility,
        )
        dose_CP = perturbations.doses(rna_CP)
        dose_PG = np.stack([dose_CP[group_C == g].mean(axis=0) for g in range(len(names))], axis=1)
        found = (*embedding_shifts(base.model, batch, rna_CP, group_C, perturbations), dose_PG)
        shift_PGD, length_PG, dose_PG = (_with_all(part, sizes) for part in found)
        change_PN = shift_PGD[:, -1] @ readout_ND.T
        change_PN[np.arange(n, len(genes_P)), null] = np.nan  # what a null gene does to itself is no null for a TF
        lengths_and_doses = (length_PG[:n], length_PG[n:], dose_PG[:n], dose_PG[n:])
        tf_blocks.append(tf_table(symbols[tokens], *lengths_and_doses, groups, sizes, direction, options.matched_genes))
        matched_PK = nearest(dose_PG[:n, -1], dose_PG[n:, -1], options.matched_genes)
        changes = (change_PN[:n], change_PN[n:], matched_PK)
        target_blocks.append(target_table(symbols[tokens], symbols, *changes, edges, direction, options.top_targets))
        kept.append(_rows_of(symbols[tokens], direction, groups, sizes, shift_PGD[:n]))
    write_parquet(pd.concat(tf_blocks, ignore_index=True), tfs)
    write_parquet(pd.concat(target_blocks, ignore_index=True), targets)
    _write_shifts(kept, symbols, readout_ND, shifts)


def _eligible(cells: pd.DataFrame, options: PerturbationSettings) -> np.ndarray:
    """Cells to perturb: those with RNA and, where perturbed cells are labelled, the controls."""
    eligible = cells["has_rna"].to_numpy(bool)
    if options.column:
        if options.column not in cells:
            raise InputError(
                "perturbation.column", f"no column {options.column!r} in the data", "Name one of the labels"
            )
        eligible &= (cells[options.column].astype(str) == options.control).to_numpy()
    if not eligible.any():
        problem = f"no cell with RNA is {options.control!r} in the column {options.column!r}"
        raise InputError("perturbation.control", problem, "Name the label of the cells that were not perturbed")
    return eligible


def _cells(reader: Reader, options: PerturbationSettings) -> tuple[np.ndarray, np.ndarray]:
    """Group of every cell, and row numbers of the cells that are perturbed, short ones first."""
    cells = reader.cells
    if options.group and options.group not in cells:
        raise InputError("perturbation.group", f"no column {options.group!r} in the data", "Name one of the labels")
    group = cells[options.group].astype(str).to_numpy() if options.group else np.full(len(cells), EVERY_GROUP)
    rows = choose_cells(group, _eligible(cells, options), options.cells_per_group, options.seed)
    if not len(rows):
        problem = f"no cell to perturb has a value in the column {options.group!r}"
        raise InputError("perturbation.group", problem, "Name another column")
    return group, rows[np.argsort(reader.lengths[rows], kind="stable")]


def _some(eligible: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Row numbers of eligible cells, so many at random at most, in order."""
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(eligible))[:most])


def _values(reader: Reader, rows: np.ndarray):
    """log1p of RNA counts per 10,000 of some cells (csr)."""
    counts = reader.corpus.rows(rows)[0]
    values = counts.astype(np.float32)
    values.data = log_normalise(counts, reader.corpus.library[rows, 0])
    return values


def _tfs(edges: pd.DataFrame, symbols: np.ndarray, most: int) -> np.ndarray:
    """Tokens of the TFs with a regulon, those with the strongest regulons if there are too many, in order."""
    strength = edges[edges["source"].isin(symbols)].groupby("source")["score"].sum().sort_values(ascending=False)
    if strength.empty:
        raise InputError("regulons", "no TF of a regulon is a gene of the data", "Check the names of the TFs")
    if len(strength) > most:
        logging.info("perturbing the %d TFs with the strongest regulons of %d", most, len(strength))
    return np.flatnonzero(np.isin(symbols, strength.index[:most]))


def _null(vocabulary: pd.DataFrame, edges, profile_MN, tokens, options: PerturbationSettings) -> np.ndarray:
    """Tokens of the null genes: no TFs, expressed like those that are perturbed."""
    is_tf = vocabulary["is_tf"].to_numpy(bool) | np.isin(vocabulary["symbol"], edges["source"].unique())
    mean_N = np.asarray(profile_MN.mean(axis=0)).ravel()
    null = choose_null(mean_N, tokens, ~is_tf & (mean_N > 0), options.null_genes)
    if len(null) < FEWEST_NULL_GENES:
        problem = f"only {len(null)} genes with transcripts are no TF"
        raise InputError("perturbation.null_genes", problem, "The null needs five; use data of more genes")
    return null


def _values_and_slots(direction, regulons, symbols, genes_P, n_tfs, profile_MN, options):
    """RNA value that each gene gets, and the slot that goes silent with it."""
    if direction == "over_expression":
        return _high(profile_MN[:, genes_P], options.quantile), np.full(len(genes_P), -1)
    slots_P = np.full(len(genes_P), -1)
    if options.silence_regulon:
        slots_P = _slots(regulons, symbols[genes_P[:n_tfs]], len(genes_P) - n_tfs, options.seed)
    return np.zeros(len(genes_P)), slots_P


def _slots(regulons: list[str], tfs: np.ndarray, n_null: int, seed: int) -> np.ndarray:
    """Slot of each TF's regulon; null genes get those of TFs at random, so that their null loses a regulon too."""
    number = {name: slot for slot, name in enumerate(regulons)}
    slots = np.array([number.get(tf, -1) for tf in tfs])
    return np.concatenate([slots, np.resize(np.random.default_rng(seed).permutation(slots), n_null)])


def _high(values_MP, quantile: float) -> np.ndarray:
    """Upper quantile of each gene among the cells that express it; one without such cells gets the median gene's."""
    columns = values_MP.tocsc()
    parts = np.split(columns.data, columns.indptr[1:-1])
    high_P = np.array([np.quantile(part, quantile) if len(part) else np.nan for part in parts])
    return np.where(np.isnan(high_P), np.nanmedian(high_P), high_P)


def _with_all(value_PGX: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Append the mean over all cells as one more group, unless the only group is that of all cells."""
    if value_PGX.shape[1] == len(sizes):
        return value_PGX
    every = np.average(value_PGX, axis=1, weights=sizes[:-1])
    return np.concatenate([value_PGX, every[:, None]], axis=1)


def _rows_of(tfs, direction, groups, sizes, shift_PGD) -> tuple[pd.DataFrame, np.ndarray]:
    """Perturbations of one direction as a table, and their shifts in the same order."""
    names = pd.MultiIndex.from_product([tfs, groups], names=["tf", "group"]).to_frame(index=False)
    names = names.assign(direction=direction, n_cells=np.tile(sizes, len(tfs)))
    return names, shift_PGD.reshape(len(names), -1)


def _write_shifts(kept, symbols, readout_ND, path) -> None:
    obs = pd.concat([names for names, _ in kept], ignore_index=True)
    obs.index = obs["tf"] + ":" + obs["direction"] + ":" + obs["group"]
    obs[["tf", "group", "direction"]] = obs[["tf", "group", "direction"]].astype("category")
    data = ad.AnnData(np.concatenate([shift for _, shift in kept]).astype(np.float32), obs=obs)
    data.varm["readout"], data.uns["genes"] = readout_ND.T.astype(np.float32), symbols.astype(str)
    data.write_h5ad(path)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            model=Path(job.input.model).parent,
            shards=job.input.shards,
            cells=job.input.cells,
            vocabulary=job.input.vocabulary,
            regulons=job.input.regulons,
            settings=job.params.perturbation,
            tfs=job.output.tfs,
            targets=job.output.targets,
            shifts=job.output.shifts,
            threads=job.threads,
            gpu=job.resources.get("gpu", 0),
        )
