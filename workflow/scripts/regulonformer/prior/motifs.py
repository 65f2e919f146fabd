"""TF motifs: count matrices as files and JASPAR have them, and the TF genes that they stand for."""

import re
from dataclasses import dataclass
from io import StringIO

import numpy as np

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames

BASES = "ACGT"


@dataclass(frozen=True)
class Motif:
    """A count matrix with the TF genes it stands for.

    Attributes
    ----------
    matrix_id, name
        As in JASPAR, e.g. MA0139.1 and CTCF.
    counts
        4 x width, rows A, C, G, T.
    genes
        Symbols of the TF genes, as the gene table spells them.
    """

    matrix_id: str
    name: str
    counts: np.ndarray
    genes: tuple[str, ...] = ()


def read_jaspar(release: str) -> list[Motif]:
    """Vertebrate CORE matrices of a JASPAR release that comes with pyjaspar (no network needed), by identifier.

    Raises
    ------
    InputError
        If pyjaspar has no such release.
    """
    from pyjaspar import jaspardb

    known = jaspardb().get_releases()
    if release not in known:
        raise InputError(
            "regulons/jaspar_release", f"{release!r} is not in pyjaspar", f"Choose one of {', '.join(known)}"
        )
    return _motifs_of(jaspardb(release=release).fetch_motifs(collection="CORE", tax_group=["vertebrates"]))


def read_motifs(path) -> list[Motif]:
    """Read motifs from a file in JASPAR or MEME (minimal) format; the TF is the name after the identifier.

    Raises
    ------
    InputError
        If the file holds no motif of either format.
    """
    from Bio import motifs

    fix = "Give a file in JASPAR format (>MA0139.1 CTCF, then rows A, C, G, T) or in MEME format"
    try:
        with open(path) as handle:
            lines = handle.readlines()
        is_meme = any(line.startswith("MEME version") for line in lines)
        records = list(motifs.parse(StringIO("".join(lines)), "minimal" if is_meme else "jaspar"))
        if is_meme:
            # The parser leaves out the second name. Without one the identifier is the name.
            names = [line.split()[1:3] for line in lines if line.startswith("MOTIF ")]
            for record, words in zip(records, names, strict=True):
                record.matrix_id, record.name = words[0], words[-1]
        found = _motifs_of(records)
    # Biopython's parsers stumble over other formats in many ways.
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"not a readable motif file ({error})", fix) from error
    if not found:
        raise InputError(path, "holds no motif", fix)
    return found


def _motifs_of(records) -> list[Motif]:
    """Motifs of JASPAR records, by identifier."""
    motifs = [Motif(r.matrix_id, r.name, np.array([r.counts[base] for base in BASES], dtype=float)) for r in records]
    return sorted(motifs, key=lambda motif: motif.matrix_id)


def motif_symbols(name: str) -> list[str]:
    """Gene symbols in a motif name: both partners of "A::B", without a suffix such as "(var.2)"."""
    return [re.sub(r"\(.*?\)", "", part).strip() for part in name.split("::")]


def map_motifs(motifs: list[Motif], genes: GeneNames) -> tuple[list[Motif], list[str]]:
    """Give every motif its TF genes.

    A dimer is kept if one partner at least is among the genes.

    Returns
    -------
    mapped
        Motifs with genes.
    unmapped
        Names of the others.
    """
    mapped, unmapped = [], []
    for motif in motifs:
        found = tuple(dict.fromkeys(symbol for symbol in genes.spell(motif_symbols(motif.name)) if symbol))
        if found:
            mapped.append(Motif(motif.matrix_id, motif.name, motif.counts, found))
        else:
            unmapped.append(motif.name)
    return mapped, unmapped
