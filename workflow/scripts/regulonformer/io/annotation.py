"""Read genes and transcription start sites from GTF, GFF3 or BED. Coordinates become 0-based, half-open."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from regulonformer.errors import InputError

GENE_COLUMNS = ["gene_id", "symbol", "chrom", "start", "end", "strand", "gene_type"]
TSS_COLUMNS = ["gene_id", "symbol", "chrom", "tss", "strand"]


def read_genes(path) -> pd.DataFrame:
    """Read the genes of an annotation.

    Parameters
    ----------
    path
        GTF, GFF3 (names `*.gtf`, `*.gff`, `*.gff3`) or a BED of genes: six columns or more (chrom, start, end, symbol,
        score, strand), or five (chrom, start, end, symbol, strand); a header line starting with "#" may name the
        columns `Ensembl_ID`/`gene_id` and `gene_type`. All may be gzip-compressed.

    Returns
    -------
    pandas.DataFrame
        gene_id (without version), symbol, chrom, start, end, strand, gene_type ("" if unknown); one row per gene.

    Raises
    ------
    InputError
        If the file holds no gene.
    """
    kind = _kind(path)
    if kind == "bed":
        genes = _read_bed_genes(path)
    else:
        records = _read_records(path, kind)
        rows = records["Feature"].eq("gene") if kind == "gtf" else _gff_genes(records)
        genes = _as_genes(records[rows])
    if genes.empty:
        raise InputError(path, "holds no gene", "Give a GTF or GFF3 with gene records, or a BED of genes")
    return genes.drop_duplicates("gene_id", ignore_index=True)


def read_tss(path) -> pd.DataFrame:
    """Read the distinct transcription start sites (one per transcript start) of an annotation.

    Returns
    -------
    pandas.DataFrame
        gene_id, symbol, chrom, tss (0-based position of the first transcribed base), strand.
        A BED has one start per gene and row; a GTF or GFF3 without transcripts likewise.
    """
    kind = _kind(path)
    if kind == "bed":
        units = _read_bed_genes(path)
    else:
        records = _read_records(path, kind)
        units = _as_genes(records[records["Feature"].eq("transcript")]) if kind == "gtf" else _gff_transcripts(records)
        if units.empty:
            units = read_genes(path)
    return units.assign(tss=tss_position(units))[TSS_COLUMNS].drop_duplicates(ignore_index=True)


def tss_position(genes: pd.DataFrame) -> np.ndarray:
    """First transcribed base (0-based) of rows with start, end, strand: `start` on +, `end - 1` on -."""
    return np.where(genes["strand"].eq("-"), genes["end"] - 1, genes["start"]).astype(np.int64)


def _kind(path) -> str:
    if not Path(path).exists():
        raise InputError(path, "file not found", "Check the path of the annotation")
    name = Path(path).name.lower().removesuffix(".gz")
    for suffix, kind in {".gtf": "gtf", ".gff": "gff", ".gff3": "gff", ".bed": "bed"}.items():
        if name.endswith(suffix):
            return kind
    raise InputError(path, "annotation of unknown format", "Name it .gtf, .gff3 or .bed, with .gz if compressed")


def _read_records(path, kind: str) -> pd.DataFrame:
    import pyranges as pr

    try:
        records = (pr.read_gtf if kind == "gtf" else pr.read_gff3)(str(path), as_df=True)
    except Exception as error:  # pyranges lets pandas and regular-expression errors through
        raise InputError(
            path, f"not readable as {kind.upper()} ({error})", "Check that the file is complete"
        ) from error
    return records


def _as_genes(records: pd.DataFrame) -> pd.DataFrame:
    """Rows of a GTF or GFF3 in our columns; the id stands in for a missing symbol."""
    gene_id = (
        _first(records, ["gene_id", "ID"]).str.removeprefix("gene:").str.replace(r"(?<=\d{6})\.\d+$", "", regex=True)
    )
    symbol = _first(records, ["gene_name", "Name", "gene_symbol", "gene"])
    table = {
        "gene_id": gene_id,
        "symbol": symbol.where(symbol != "", gene_id),
        "chrom": records["Chromosome"].astype(str),
        "start": records["Start"].astype(np.int64),
        "end": records["End"].astype(np.int64),
        "strand": records["Strand"].astype(str),
        "gene_type": _first(records, ["gene_type", "gene_biotype", "biotype"]),
    }
    return pd.DataFrame(table, columns=GENE_COLUMNS).reset_index(drop=True)


def _first(records: pd.DataFrame, names: list[str]) -> pd.Series:
    """First non-empty of the attributes, as text."""
    value = pd.Series("", index=records.index, dtype=object)
    for name in names:
        if name in records:
            value = value.where(value != "", records[name].astype(object).fillna("").astype(str))
    return value


def _gff_genes(records: pd.DataFrame) -> pd.Series:
    """GFF3 genes: features called "gene" or, in Ensembl's files, `ncRNA_gene`, `pseudogene` with a gene id."""
    ids = _first(records, ["ID"])
    return records["Feature"].astype(str).eq("gene") | ids.str.startswith("gene:")


def _gff_transcripts(records: pd.DataFrame) -> pd.DataFrame:
    """GFF3 transcripts are the children of genes; they take gene id, symbol and type from their parent."""
    genes = records[_gff_genes(records)]
    parents = _as_genes(genes).assign(parent=_first(genes, ["ID"]).to_numpy()).drop_duplicates("parent")
    place = {"parent": _first(records, ["Parent"]), "chrom": records["Chromosome"].astype(str)}
    place |= {"start": records["Start"], "end": records["End"], "strand": records["Strand"].astype(str)}
    return pd.DataFrame(place).merge(parents[["parent", "gene_id", "symbol", "gene_type"]], on="parent")[GENE_COLUMNS]


def _read_bed_genes(path) -> pd.DataFrame:
    from regulonformer.io.peaks import read_bed

    table, names = read_bed(path), _bed_header(path)
    n_columns = table.shape[1]
    if n_columns < 5:
        raise InputError(
            path, f"has {n_columns} columns", "A BED of genes needs chrom, start, end, symbol[, score], strand"
        )
    symbol = table["name"].astype(str)
    strand = table.iloc[:, 4 if n_columns == 5 else 5].astype(str)
    if not strand.isin(["+", "-", "."]).all():
        raise InputError(path, f"strand {strand[~strand.isin(['+', '-', '.'])].iloc[0]!r}", "Strand is + or -")
    columns = {name.lower(): table.iloc[:, i].astype(str) for i, name in enumerate(names[:n_columns])}
    gene_id = columns.get("ensembl_id", columns.get("gene_id", symbol)).str.replace(r"(?<=\d{6})\.\d+$", "", regex=True)
    genes = table[["chrom", "start", "end"]].assign(
        gene_id=gene_id, symbol=symbol, strand=strand, gene_type=columns.get("gene_type", "")
    )
    return genes[GENE_COLUMNS]


def _bed_header(path) -> list[str]:
    """Column names from a first line that starts with "#", if there is one."""
    with gzip.open(path, "rt") if str(path).endswith(".gz") else open(path) as handle:
        line = handle.readline()
    return line.lstrip("#").strip().split("\t") if line.startswith("#") else []
