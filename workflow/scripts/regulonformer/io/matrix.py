"""Read the counts in one file, or only its names, from any layout that users have."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.io.contents import GENES, PEAKS, Contents, check_barcodes, check_unique
from regulonformer.io.layouts import count_options, file_to_open, names_in, tell_layout
from regulonformer.io.peaks import normalise_names, parse_names, with_chr
from regulonformer.io.recover import presence, recover_counts


class MatrixHeader(NamedTuple):
    """Names in a count matrix, read without its counts.

    Attributes
    ----------
    layout
        "10x h5 v3", "10x h5 v2", "10x mtx", "h5mu" or "h5ad".
    barcodes
        Barcodes in file order.
    gene_ids, symbols
        One per gene, without the prefix of a chosen genome; an id is "" where the file has none.
    genomes
        Genomes that genes and peaks of the file name, sorted.
    peaks
        Peak names, without that prefix, else as in the file.
    other
        Number of features of every other type.
    """

    layout: str
    barcodes: list[str]
    gene_ids: list[str]
    symbols: list[str]
    genomes: tuple[str, ...]
    peaks: list[str]
    other: dict[str, int]


class TenxMatrix(NamedTuple):
    """Counts of one library, split by modality; both tables have the same barcodes in the same order.

    Attributes
    ----------
    rna
        AnnData, barcodes x genes, csr int32 counts; var index = unique symbol; var: gene_id (the symbol, where the
        file has no id) and, where the file has gene intervals, chrom, start, end. None where the file has no genes.
    atac
        AnnData, barcodes x peaks, csr int32 counts; var index "chr-start-end"; var: chrom, start, end.
        None where the file has no peaks.
    notes
        What was renamed or left out, in words.
    """

    rna: object | None
    atac: object | None
    notes: list[str]


def read_header(path, genome: str | None = None, modality: str = "") -> MatrixHeader:
    """Read the names in a count matrix of any layout; its counts stay on disk.

    Parameters
    ----------
    path
        As for `read_counts`.
    genome
        Which genome to keep of a matrix that has several; all are kept where it is none of them.
    modality
        As for `read_counts`.

    Raises
    ------
    InputError
        If the file is of no known layout, or its names cannot be read.
    """
    with _readable(path):
        file = file_to_open(path)
        contents = names_in(file, tell_layout(file), modality)
    features, genomes = contents.features, _genomes(contents.features)
    if genome in genomes:
        features, _ = _one_genome(path, features, genome)
    kind = features["type"]
    genes = features[kind == GENES]
    return MatrixHeader(
        contents.layout,
        contents.barcodes,
        genes["id"].tolist(),
        genes["name"].tolist(),
        tuple(genomes),
        features.loc[kind == PEAKS, "name"].tolist(),
        _other_types(features),
    )


def read_counts(
    path,
    *,
    genome: str | None = None,
    modality: str = "",
    recover: bool = False,
    layer: str | None = None,
    add_chr: bool = False,
) -> TenxMatrix:
    """Read the counts of a file of any layout, split by modality.

    Features may come in any order: only their type decides what is a gene and what is a peak.

    Parameters
    ----------
    path
        10x HDF5 (v3, or v2 with RNA only), 10x MEX (the folder or its matrix.mtx), h5mu, or h5ad (genes, peaks, or both
        with `var["feature_types"]`). In h5mu and h5ad layers["counts"] goes before X.
    genome
        Which genome to keep of a matrix that has several; of no meaning for others.
    modality
        "rna" or "atac": of an h5mu keep all barcodes of that one, also those that the other lacks, which have no counts
        there. "" for the barcodes that both share. Of no meaning for other layouts, whose tables share theirs.
    recover
        Whether to bring normalised values of h5mu and h5ad back to counts (`regulonformer.io.recover`).
    layer
        Layer of an h5ad to read in place of its counts.
    add_chr
        Whether to name chromosomes of peaks as UCSC does (`regulonformer.io.peaks.with_chr`).

    Raises
    ------
    InputError
        If the file is unreadable, or has no barcodes, neither genes nor peaks, several genomes of which none is
        `genome`, a barcode, gene id or peak twice, or values that are not counts.
    """
    with _readable(path):
        file = file_to_open(path)
        layout = tell_layout(file)
        contents = names_in(file, layout, modality)
        _check_names(path, contents)
        counts = layout.read_counts(file, contents, **count_options(path, layout, recover, layer))
        if counts.shape != (len(contents.barcodes), len(contents.features)):
            names = f"{len(contents.barcodes)} barcodes and {len(contents.features)} features"
            raise InputError(path, f"has {counts.shape} counts, but names {names}", "Write the matrix again")
    features, notes = _one_genome(path, contents.features, genome)
    notes = [*contents.notes, *notes]
    notes += [f"{n} features of type {kind!r} were left out" for kind, n in _other_types(features).items()]
    genes, peaks = features[features["type"] == GENES], features[features["type"] == PEAKS]
    if add_chr:
        peaks = peaks.assign(name=with_chr(peaks["name"]).to_numpy())
    if genes.empty and peaks.empty:
        raise InputError(path, "no gene or peak of this genome", "Check the column genome of the sample sheet")
    in_genes, in_peaks = counts[:, genes.index], counts[:, peaks.index]
    if recover:
        (in_genes, more), (in_peaks, told) = recover_counts(path, in_genes), presence(path, in_peaks)
        notes += more + told
    rna = _genes(path, in_genes, contents.barcodes, genes, notes) if len(genes) else None
    atac = _peaks(path, in_peaks, contents.barcodes, peaks) if len(peaks) else None
    sizes = len(contents.barcodes), len(genes), len(peaks)
    logging.info("%s, %s: %d barcodes, %d genes, %d peaks", path, contents.layout, *sizes)
    for note in notes:
        logging.info("%s: %s", path, note)
    return TenxMatrix(rna, atac, notes)


@contextmanager
def _readable(path) -> Iterator[None]:
    """Turn the dozen kinds of errors that libraries raise for a damaged file into one."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, "file not found", "Check the path in the sample sheet") from None
    except MemoryError as error:
        fix = "Give the rule more memory; or, if this is no large library, copy the file again, because it is damaged"
        raise InputError(path, f"does not fit into memory ({error})", fix) from error
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        fix = "Check that the file is complete: copy it again, or write it again"
        raise InputError(path, f"not a readable count matrix ({reason})", fix) from error


def _check_names(path, contents: Contents) -> None:
    if not contents.barcodes:
        raise InputError(path, "the matrix has no barcodes", "Leave this library out of the sample sheet")
    check_barcodes(path, contents.barcodes)
    if not contents.features["type"].isin([GENES, PEAKS]).any():
        fix = "Give a matrix with genes, peaks or both"
        raise InputError(path, "no feature of type 'Gene Expression' or 'Peaks'", fix)


def _genomes(features: pd.DataFrame) -> list[str]:
    return sorted(set(features.loc[features["type"].isin([GENES, PEAKS]), "genome"]) - {""})


def _other_types(features: pd.DataFrame) -> dict[str, int]:
    kind = features["type"]
    return kind[~kind.isin([GENES, PEAKS])].value_counts().sort_index().to_dict()


def _one_genome(path, features: pd.DataFrame, genome: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Features of one genome, without the prefixes by which Cell Ranger tells several apart; and what was left out."""
    found = _genomes(features)
    if len(found) < 2:
        return features, []
    if genome not in found:
        fix = f"Write one of {', '.join(found)} into the column genome of the sample sheet"
        raise InputError(path, f"holds several genomes ({', '.join(found)}), of which none is {genome or ''!r}", fix)
    kept = features[features["genome"].isin([genome, ""])].copy()
    for column in ("id", "name", "interval"):
        kept[column] = kept[column].str.replace(f"^{re.escape(genome)}_+", "", regex=True)
    return kept, [f"{len(features) - len(kept)} features of other genomes than {genome} were left out"]


def _table(counts, barcodes: list[str], var: pd.DataFrame):
    import anndata

    return anndata.AnnData(counts, obs=pd.DataFrame(index=pd.Index(barcodes, dtype=object)), var=var)


def _genes(path, counts, barcodes: list[str], genes: pd.DataFrame, notes: list[str]):
    """RNA table with unique symbols; how many were renamed is noted."""
    from anndata.utils import make_index_unique

    check_unique(path, "gene id", genes.loc[genes["id"] != "", "id"], "Keep one row per gene in the matrix")
    symbols = pd.Index(genes["name"].to_numpy(), dtype=object)
    if renamed := int(symbols.duplicated().sum()):
        notes.append(f"{renamed} repeated gene symbols were made unique with a suffix")
        symbols = make_index_unique(symbols)
    gene_id = genes["id"].where(genes["id"] != "", genes["name"])
    var = pd.DataFrame({"gene_id": gene_id.to_numpy()}, index=symbols)
    # Cell Ranger ARC gives each gene's interval; an empty string where it knows none.
    place = parse_names(normalise_names(genes["interval"]), strict=False)
    if (place["chrom"] != "").any():
        var[["chrom", "start", "end"]] = place.to_numpy()
        var[["start", "end"]] = var[["start", "end"]].astype(np.int64)
    return _table(counts, barcodes, var)


def _peaks(path, counts, barcodes: list[str], peaks: pd.DataFrame):
    """ATAC table with peaks named "chr-start-end"."""
    names = normalise_names(peaks["name"])
    check_unique(path, "peak", names, "Remove the repeated peaks from the matrix")
    var = parse_names(names, where=path).set_axis(pd.Index(names, dtype=object))
    return _table(counts, barcodes, var)
