"""Edits from VCF, BED or TSV files, checked against the genome."""

import gzip
import logging
from collections.abc import Iterator
from itertools import count
from os.path import commonprefix
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from regulonformer.errors import UNREADABLE, InputError
from regulonformer.explain.edits import KINDS, Edit
from regulonformer.sequence.features import Genome

REPLACES = ("snv", "indel", "deletion")
FORMATS = "Use .vcf(.gz), .bed or .tsv; see docs/variants.md"
BASES = set("ACGTN")


def read_edits(path, genome: Genome, tss: pd.DataFrame) -> tuple[list[Edit], list[tuple[str, str]]]:
    """Read edits of any of the three formats.

    VCF: one edit per ALT allele. BED: chrom, start, end, kind (deletion if there is no fourth column), name. TSV with a
    header: kind and either chrom, start, end (0-based, half-open) with ref and alt where the kind replaces bases, or
    gene, whose TSSs are ablated; name is optional.

    Parameters
    ----------
    path
        File.
    genome
        Reference that alleles are checked against.
    tss
        chrom, tss, symbol: where the TSSs of named genes are.

    Returns
    -------
    edits
        Edits in the order of the file; a name that is given again is numbered.
    unread
        Name and reason of entries that are no edit of known bases: symbolic alleles, or an ALT that is REF.

    Raises
    ------
    InputError
        If the file is unreadable, a kind or gene is unknown, a reference allele differs from the genome, or an entry
        changes no base.
    """
    reader, taken, edits, unread = EditReader(path, genome, tss), set(), [], []
    for number, values in read_entries(path):
        found = reader.read(number, values)
        named = found._replace(name=_name_once(f"{path} line {number}", found.name, taken))
        (edits if isinstance(named, Edit) else unread).append(named)
    return edits, unread


def read_entries(path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and text of one entry after the other, as `EditReader.read` takes them; only the layout is checked.

    Nothing is kept, because the variants of a genome are millions.

    Raises
    ------
    InputError
        If the file is of no known layout, cannot be read, or holds no entry.
    """
    path = Path(path)
    suffix = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if suffix not in ("vcf", "bed", "tsv"):
        raise InputError(path, f"of unknown format .{suffix}", FORMATS)
    entries = {"vcf": _vcf_rows, "bed": _bed_rows, "tsv": _tsv_rows}[suffix](path, _lines(path))
    first = next(entries, None)
    if first is None:
        raise InputError(path, "holds no edit", FORMATS)
    yield first
    yield from entries


class Unread(NamedTuple):
    """An entry that is no edit of known bases, and why."""

    name: str
    reason: str


class EditReader:
    """Makes edits of entries and checks each.

    Parameters
    ----------
    path, genome, tss
        As of `read_edits`.
    """

    def __init__(self, path, genome: Genome, tss: pd.DataFrame) -> None:
        self.path, self.genome, self.tss = path, genome, tss

    def read(self, number: int, values: dict) -> Edit | Unread:
        """The edit of one entry: kind, chrom, start, end, ref, alt, gene, name, as text; empty where there is none.

        Raises
        ------
        InputError
            If it does not fit genome or annotation; names the line.
        """
        kind, where = values["kind"], f"{self.path} line {number}"
        if kind not in KINDS:
            raise InputError(where, f"unknown kind {kind!r}", f"Known are {', '.join(KINDS)}")
        if values["gene"]:
            return self._of_gene(where, kind, values)
        chrom, start, end = values["chrom"], _number(where, values["start"]), _number(where, values["end"])
        name = values["name"] or f"{chrom}:{start + 1}-{end}_{kind}"
        ref, alt = values["ref"].upper(), values["alt"].upper()
        if set(ref + alt) - BASES:
            return Unread(name, f"the alleles {ref}>{alt} are no bases")
        if ref and ref == alt:
            return Unread(name, f"both alleles are {ref}")
        if chrom not in self.genome.lengths:
            known = ", ".join(list(self.genome.lengths)[:3])
            raise InputError(where, f"chromosome {chrom} is not in {self.genome.path} ({known} ...)", "Rename it")
        if not 0 <= start <= end <= self.genome.lengths[chrom]:
            problem = f"{chrom}:{start}-{end} is no interval of a chromosome of {self.genome.lengths[chrom]:,} bp"
            raise InputError(where, problem, "Give 0-based, half-open coordinates of the genome build in use")
        self._check_reference(where, chrom, start, end, ref)
        _check_size(where, kind, end - start, ref, alt)
        if kind in REPLACES:
            # The base that an indel of a VCF shares with the reference is no part of it.
            shared = len(commonprefix([ref, alt]))
            start, alt = start + shared, alt[shared:]
        replaced = alt.encode() if kind in REPLACES else None if kind == "motif_scramble" else b"N" * (end - start)
        return Edit(name, kind, chrom, start, end, replaced)

    def _check_reference(self, where: str, chrom: str, start: int, end: int, ref: str) -> None:
        found = self.genome.fetch(chrom, start, end).decode()
        if ref and ref != found:
            problem = f"reference allele {ref} at {chrom}:{start + 1}, but {self.genome.path} has {found}"
            fix = "Give the variants in the genome build of reference/fasta, on its forward strand"
            raise InputError(where, problem, fix)

    def _of_gene(self, where: str, kind: str, values: dict) -> Edit:
        gene = values["gene"]
        places = self.tss[self.tss["symbol"] == gene]
        if kind != "tss_ablation":
            raise InputError(where, f"a {kind} is named by a gene", "Name it by chrom, start, end")
        if places.empty:
            raise InputError(where, f"gene {gene} has no TSS in the annotation", "Check the symbol")
        first = places.iloc[0]
        name = values["name"] or f"{gene}_tss_ablation"
        return Edit(name, kind, str(first["chrom"]), int(first["tss"]), int(first["tss"]) + 1, None, gene)


def _name_once(where: str, name: str, taken: set[str]) -> str:
    """The name, numbered if an entry before it has it: tables and counts go by names."""
    numbered = (f"{name}_{number}" for number in count(2))
    free = name if name not in taken else next(other for other in numbered if other not in taken)
    if free != name:
        logging.warning("%s: the name %s is given again; this entry is called %s", where, name, free)
    taken.add(free)
    return free


def _check_size(where: str, kind: str, size: int, ref: str, alt: str) -> None:
    """Refuse an entry whose alleles do not fit its kind and interval."""
    if kind in ("snv", "indel") and not (alt or ref):
        raise InputError(where, f"a {kind} without alleles", "Fill the columns ref and alt, or use a VCF")
    if kind == "snv" and not size == len(ref) == len(alt) == 1:
        problem = f"an snv of {size} bp with the alleles {ref or 'none'} and {alt or 'none'}"
        raise InputError(where, problem, "Give one base each as ref and alt, and end = start + 1; else call it indel")
    if size == 0 and not (kind == "indel" and alt):
        raise InputError(where, f"a {kind} of no bases: start and end are equal", "Give a 0-based, half-open interval")


def _number(where: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(where, f"{text!r} is no position", "Give whole numbers of base pairs") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not empty."""
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt") as handle:
            yield from ((number, line.rstrip("\r\n")) for number, line in enumerate(handle, start=1) if line.strip())
    except UNREADABLE as error:
        raise InputError(path, f"not readable ({error})", FORMATS) from error


def _vcf_rows(path, lines):
    """Alleles of a VCF, one entry each."""
    for number, line in lines:
        if line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) < 5:
            raise InputError(f"{path} line {number}", "fewer than five columns", "A VCF has CHROM POS ID REF ALT ...")
        chrom, position, identifier, ref, alts = fields[:5]
        start = _number(f"{path} line {number}", position) - 1
        for alt in alts.split(","):
            name = f"{chrom}:{position}_{ref}>{alt}" if identifier in (".", "") else f"{identifier}_{ref}>{alt}"
            kind = "snv" if len(ref) == len(alt) == 1 else "deletion" if ref.startswith(alt) else "indel"
            row = {"kind": kind, "chrom": chrom, "start": start, "end": start + len(ref), "ref": ref, "alt": alt}
            yield number, row | {"gene": "", "name": name}


def _bed_rows(path, lines):
    for number, line in lines:
        if line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        if len(fields) < 3:
            raise InputError(f"{path} line {number}", "fewer than three columns", "A BED has chrom, start, end")
        kind, name = (fields[at] if len(fields) > at else default for at, default in ((3, "deletion"), (4, "")))
        row = dict(zip(("chrom", "start", "end"), fields[:3], strict=True))
        yield number, row | {"kind": kind, "name": name, "ref": "", "alt": "", "gene": ""}


def _tsv_rows(path, lines):
    lines = ((number, line) for number, line in lines if not line.startswith("#"))
    names = next(lines, (0, ""))[1].split("\t")
    if "kind" not in names or not ({"chrom", "start", "end"} <= set(names) or "gene" in names):
        fix = "The header names kind, and chrom, start, end or gene; see docs/variants.md"
        raise InputError(path, f"no edits: its header is {', '.join(names) or 'empty'}", fix)
    for number, line in lines:
        given = dict(zip(names, line.split("\t"), strict=False))
        yield (
            number,
            {key: given.get(key, "") for key in ("kind", "chrom", "start", "end", "ref", "alt", "gene", "name")},
        )
