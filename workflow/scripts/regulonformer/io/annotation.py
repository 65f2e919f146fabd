"""Read genes and transcription start sites from GTF, GFF3 or BED. Coordinates become 0-based, half-open."""

import gzip
import re
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from regulonformer.errors import InputError

GENE_COLUMNS = ["gene_id", "symbol", "chrom", "start", "end", "strand", "gene_type"]
TSS_COLUMNS = ["gene_id", "symbol", "chrom", "tss", "strand"]
PLACE = ["Feature", "Chromosome", "Start", "End", "Strand"]
ID, SYMBOL, TYPE = (
    ["gene_id", "ID"],
    ["gene_name", "Name", "gene_symbol", "gene"],
    ["gene_type", "gene_biotype", "biotype"],
)
# What lies inside a transcript is nine lines of ten in an annotation, and says nothing about genes and their starts.
PARTS = {"exon", "CDS", "UTR", "five_prime_UTR", "three_prime_UTR", "start_codon", "stop_codon", "Selenocysteine"}
PARTS |= {"five_prime_utr", "three_prime_utr", "intron", "stop_codon_redefined_as_selenocysteine"}
# pyranges makes a column of every attribute, so that lines are parsed in blocks and only our columns are kept.
BLOCK_LINES = 50_000
EMPTY_ATTRIBUTE = re.compile(r' ?\w+ "";')
VERSION = r"^(ENS[A-Z]*\d{11})\.\d+"


class Annotation(NamedTuple):
    """Genes and their starts.

    Attributes
    ----------
    genes
        gene_id (without version), symbol, chrom, start, end, strand, gene_type ("" if unknown); one row per gene.
    tss
        gene_id, symbol, chrom, tss (0-based position of the first transcribed base), strand; one row per distinct start
        of a gene's transcripts. A BED has one start per gene and row; a GTF or GFF3 without transcripts likewise.
    repeated_ids
        Gene records left out, because their id is there before; their starts are kept.
    """

    genes: pd.DataFrame
    tss: pd.DataFrame
    repeated_ids: int = 0


def read_annotation(path) -> Annotation:
    """Read genes and transcription start sites in one pass and bounded memory.

    Parameters
    ----------
    path
        GTF, GFF3 (names `*.gtf`, `*.gff`, `*.gff3`) or a BED of genes: six columns or more (chrom, start, end, symbol,
        score, strand), or five (chrom, start, end, symbol, strand); a header line starting with "#" may name the
        columns `Ensembl_ID`/`gene_id` and `gene_type`. All may be gzip-compressed.

    Raises
    ------
    InputError
        If the file holds no gene, or cannot be read.
    """
    kind = _kind(path)
    if kind == "bed":
        genes = units = _read_bed_genes(path)
    else:
        records = _read_records(path, kind)
        genes = _as_genes(records[_is_gene(records, kind)])
        units = _as_genes(records[records["Feature"].eq("transcript")]) if kind == "gtf" else _gff_transcripts(records)
    if genes.empty:
        raise InputError(path, "holds no gene", "Give a GTF or GFF3 with gene records, or a BED of genes")
    units = genes if units.empty else units
    tss = units.assign(tss=tss_position(units))[TSS_COLUMNS].drop_duplicates(ignore_index=True)
    unique = genes.drop_duplicates("gene_id", ignore_index=True)
    return Annotation(unique, tss, len(genes) - len(unique))


def read_genes(path) -> pd.DataFrame:
    """Genes of an annotation; see `read_annotation`."""
    return read_annotation(path).genes


def read_tss(path) -> pd.DataFrame:
    """Distinct transcription start sites of an annotation; see `read_annotation`."""
    return read_annotation(path).tss


def describe(annotation: Annotation) -> dict:
    """Counts that tell whether an annotation is what it should be, with examples of what may surprise."""
    genes = annotation.genes
    named = genes[genes["symbol"] != genes["gene_id"]]
    duplicated = named.loc[named["symbol"].duplicated(keep=False), "symbol"]
    return {
        "genes": len(genes),
        "tss": len(annotation.tss),
        "chromosomes": int(genes["chrom"].nunique()),
        "protein_coding": int(genes["gene_type"].eq("protein_coding").sum()),
        "repeated_ids": annotation.repeated_ids,
        "ids_without_symbol": len(genes) - len(named),
        "genes_with_a_shared_symbol": len(duplicated),
        "shared_symbols": duplicated.drop_duplicates().sort_values().tolist(),
    }


def without_version(ids) -> pd.Series:
    """Stable ids: Ensembl ids without their version ("ENSG00000141510.18" is "ENSG00000141510"); others as they are."""
    return pd.Series(ids, dtype=object).astype(str).str.replace(VERSION, r"\1", regex=True)


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
    """Genes and transcripts of a GTF or GFF3, with the attributes that we use."""
    tables = []
    try:
        with gzip.open(path, "rt") if str(path).endswith(".gz") else open(path) as handle:
            lines = _units(handle)
            while block := list(islice(lines, BLOCK_LINES)):
                tables.append(_parse(block, kind))
    except InputError:
        raise
    except Exception as error:  # pyranges lets pandas and regular-expression errors through
        raise InputError(
            path, f"not readable as {kind.upper()} ({error})", "Check that the file is complete"
        ) from error
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*PLACE, *ID, "Parent"])


def _units(handle) -> Iterator[str]:
    """Lines of an annotation that are neither comments nor parts of transcripts."""
    for line in handle:
        fields = line.split("\t", 3)
        if not line.startswith("#") and len(fields) == 4 and fields[2] not in PARTS:
            # pyranges would read an empty attribute as "NA".
            yield EMPTY_ATTRIBUTE.sub("", line) if '""' in line else line


def _parse(lines: list[str], kind: str) -> pd.DataFrame:
    """Our columns of some lines, read by pyranges (which takes files alone)."""
    import pyranges as pr

    with tempfile.NamedTemporaryFile("wt", suffix=f".{kind}") as file:
        file.writelines(lines)
        file.flush()
        records = (pr.read_gtf if kind == "gtf" else pr.read_gff3)(file.name, as_df=True)
    wanted = [*PLACE, *ID, *SYMBOL, *TYPE, "Parent"]
    records = records[[column for column in wanted if column in records]]
    return records.astype({"Feature": object, "Chromosome": object, "Strand": object})


def _as_genes(records: pd.DataFrame) -> pd.DataFrame:
    """Rows of a GTF or GFF3 in our columns; the id stands in for a missing symbol."""
    gene_id = without_version(_first(records, ID).str.removeprefix("gene:"))
    symbol = _first(records, SYMBOL)
    table = {
        "gene_id": gene_id,
        "symbol": symbol.where(symbol != "", gene_id),
        "chrom": records["Chromosome"].astype(str),
        "start": records["Start"].astype(np.int64),
        "end": records["End"].astype(np.int64),
        "strand": records["Strand"].astype(str),
        "gene_type": _first(records, TYPE),
    }
    return pd.DataFrame(table, columns=GENE_COLUMNS).reset_index(drop=True)


def _first(records: pd.DataFrame, names: list[str]) -> pd.Series:
    """First non-empty of the attributes, as text."""
    value = pd.Series("", index=records.index, dtype=object)
    for name in names:
        if name in records:
            value = value.where(value != "", records[name].astype(object).fillna("").astype(str))
    return value


def _is_gene(records: pd.DataFrame, kind: str) -> pd.Series:
    """Rows that are genes: called "gene" or, in Ensembl's GFF3, `ncRNA_gene`, `pseudogene` with a gene id."""
    called = records["Feature"].astype(str).eq("gene")
    return called if kind == "gtf" else called | _first(records, ["ID"]).str.startswith("gene:")


def _gff_transcripts(records: pd.DataFrame) -> pd.DataFrame:
    """GFF3 transcripts are the children of genes; they take gene id, symbol and type from their parent."""
    genes = records[_is_gene(records, "gff")]
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
    gene_id = without_version(columns.get("ensembl_id", columns.get("gene_id", symbol)))
    genes = table[["chrom", "start", "end"]].assign(
        gene_id=gene_id, symbol=symbol, strand=strand, gene_type=columns.get("gene_type", "")
    )
    return genes[GENE_COLUMNS]


def _bed_header(path) -> list[str]:
    """Column names from a first line that starts with "#", if there is one."""
    with gzip.open(path, "rt") if str(path).endswith(".gz") else open(path) as handle:
        line = handle.readline()
    return line.lstrip("#").strip().split("\t") if line.startswith("#") else []
