"""One library, from one file or two: its genes, its peaks, or both, of the same barcodes in the same order."""

from typing import NamedTuple

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.io.anndata_files import read_cell_table
from regulonformer.io.matrix import TenxMatrix, read_counts

# What fills the second slot of the model beside RNA.
ACCESSIBILITY, UNSPLICED = "accessibility", "unspliced"
VELOCITY_LAYERS = ("spliced", "unspliced")


class Library(NamedTuple):
    """Counts of one library.

    Attributes
    ----------
    tables
        "rna", "atac" and "unspliced", those that it has -> AnnData, barcodes x features, csr int32 counts.
    barcodes
        Of all tables.
    notes
        What was renamed or left out, in words.
    """

    tables: dict
    barcodes: list[str]
    notes: list[str]


def read_library(
    matrix,
    *,
    peak_matrix=None,
    modality: str = "",
    genome: str | None = None,
    recover: bool = False,
    add_chr: bool = False,
    second: str = ACCESSIBILITY,
) -> Library:
    """Read what a library has.

    Parameters
    ----------
    matrix, peak_matrix
        Files as for `read_counts`; the second one, or None, gives the peaks of the same cells.
    modality
        "rna" or "atac" to take that one alone, "" for all there is.
    genome, recover, add_chr
        As for `read_counts`.
    second
        `ACCESSIBILITY`, or `UNSPLICED`: layers["spliced"] of an h5ad are then the RNA counts, and layers["unspliced"]
        stand beside them in place of peaks (the velocity view of scDynOmics).

    Raises
    ------
    InputError
        If a file cannot be read, the library has neither modality or not the chosen one, or its two files share no
        barcode.
    """
    if second == UNSPLICED:
        found = _with_unspliced(matrix, genome, recover)
    else:
        options = {"genome": genome, "recover": recover, "add_chr": add_chr}
        # Of two files each gives one modality, of a single one the sheet says which.
        first = read_counts(matrix, modality="rna" if peak_matrix else modality, **options)
        other = read_counts(peak_matrix, modality="atac", **options) if peak_matrix else None
        found = _joined(matrix, peak_matrix, first, other) if other else _single(first)
    if not modality:
        return found
    if modality not in found.tables:
        problem = f"modality is {modality}, but the matrix has no {'genes' if modality == 'rna' else 'peaks'}"
        raise InputError(matrix, problem, "Correct or empty the column modality of the sample sheet")
    left = [name for name in found.tables if name != modality]
    notes = [*found.notes, *(f"{name} counts were left out, as the sample sheet asks for {modality}" for name in left)]
    return Library({modality: found.tables[modality]}, found.barcodes, notes)


def read_own_labels(matrix, peak_matrix=None, modality: str = "") -> list[tuple[str, pd.DataFrame]]:
    """Tables of cells that come inside h5ad and h5mu files: file and table by barcode, text."""
    files = [(matrix, "rna"), (peak_matrix, "atac")] if peak_matrix else [(matrix, modality)]
    tables = [(path, read_cell_table(path, one)) for path, one in files]
    return [(path, table) for path, table in tables if table is not None]


def _single(read: TenxMatrix) -> Library:
    """All that one file holds."""
    tables = {name: table for name, table in (("rna", read.rna), ("atac", read.atac)) if table is not None}
    return Library(tables, list(next(iter(tables.values())).obs_names), list(read.notes))


def _joined(matrix, peak_matrix, first: TenxMatrix, other: TenxMatrix) -> Library:
    """Genes of one file and peaks of the other, of the barcodes that both have."""
    if first.rna is None or other.atac is None:
        lacks = (matrix, "genes") if first.rna is None else (peak_matrix, "peaks")
        raise InputError(lacks[0], f"has no {lacks[1]}", "Give genes in the column matrix and peaks in peak_matrix")
    barcodes = first.rna.obs_names[first.rna.obs_names.isin(other.atac.obs_names)].tolist()
    if not barcodes:
        examples = f"{other.atac.obs_names[0]!r}, {matrix} {first.rna.obs_names[0]!r}"
        fix = "Write the barcodes of both files alike; libraries of different cells are two rows of the sheet"
        raise InputError(peak_matrix, f"shares no barcode with the matrix of genes (here {examples})", fix)
    notes = [*first.notes, *other.notes]
    for path, table in ((matrix, first.rna), (peak_matrix, other.atac)):
        if lost := table.n_obs - len(barcodes):
            notes.append(f"{lost} barcodes of {path} are not in the other matrix and were left out")
    return Library({"rna": first.rna[barcodes].copy(), "atac": other.atac[barcodes].copy()}, barcodes, notes)


def _with_unspliced(matrix, genome, recover: bool) -> Library:
    """Spliced counts as RNA, and unspliced counts of the same genes beside them."""
    spliced, unspliced = (read_counts(matrix, genome=genome, recover=recover, layer=layer) for layer in VELOCITY_LAYERS)
    if spliced.rna is None:
        raise InputError(matrix, "has no genes", "Spliced and unspliced counts are counts of genes")
    notes = [*spliced.notes, *(f"unspliced: {note}" for note in unspliced.notes)]
    return Library({"rna": spliced.rna, UNSPLICED: unspliced.rna}, list(spliced.rna.obs_names), notes)
