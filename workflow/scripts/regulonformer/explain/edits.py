"""Edits of the genome, and what they make of the sequence of a window."""

from typing import NamedTuple

import numpy as np

from regulonformer.sequence.features import Genome

KINDS = ("snv", "indel", "deletion", "tss_ablation", "cre_ablation", "motif_scramble")


class Edit(NamedTuple):
    """One interval of the genome and what stands there instead.

    Attributes
    ----------
    name
        Name in tables.
    kind
        One of `KINDS`.
    chrom, start, end
        Interval that is replaced (0-based, half-open).
    alt
        Bases that replace it; None scrambles them.
    gene
        Gene whose TSS is ablated, where that is the kind; empty otherwise.
    """

    name: str
    kind: str
    chrom: str
    start: int
    end: int
    alt: bytes | None
    gene: str = ""

    @property
    def reach(self) -> int:
        """End of what it touches; an insertion touches the base that it stands before."""
        return max(self.end, self.start + 1)


def edited(genome: Genome, window, edit: Edit, rng: np.random.Generator) -> bytes:
    """Sequence of a window after an edit; its start stays in place, and bases move in or out at its end.

    Parameters
    ----------
    genome
        Reference.
    window
        Has start and end; on the chromosome of the edit.
    edit
        Edit that overlaps the window.
    rng
        Orders scrambled bases.
    """
    length = window.end - window.start
    inside = within(edit, window.start, window.end)
    alt = scrambled(genome.fetch(edit.chrom, inside.start, inside.end), rng) if edit.alt is None else inside.alt
    left = genome.fetch(edit.chrom, window.start, inside.start)
    # What a deletion removes, bases from behind the window make up for.
    right = genome.fetch(edit.chrom, edit.end, edit.end + length)
    return (left + alt + right)[:length]


def within(edit: Edit, start: int, end: int) -> Edit:
    """The part of an edit that lies in a stretch of its chromosome."""
    first = max(edit.start, start)
    alt = edit.alt if edit.alt is None else edit.alt[first - edit.start :]
    return edit._replace(start=first, end=min(edit.end, end), alt=alt)


def scrambled(bases: bytes, rng: np.random.Generator) -> bytes:
    """The same bases in another order; runs of one base stay what they are."""
    codes = np.frombuffer(bases, np.uint8)
    for _ in range(20):
        shuffled = rng.permutation(codes)
        # Half of the places at least should differ, as far as the composition allows.
        if (shuffled != codes).mean() >= 0.5:
            break
    return shuffled.tobytes()


def random_edit(edit: Edit, reference: bytes, start: int, end: int, rng: np.random.Generator) -> Edit:
    """An edit of the same kind and size at a random place of a stretch: what any such edit there does.

    Parameters
    ----------
    edit
        Edit to match.
    reference
        Bases of the stretch.
    start, end
        The stretch.
    rng
        Source of randomness.
    """
    size = min(edit.end - edit.start, end - start)
    # An insertion behind the last base would change nothing.
    at = start + int(rng.integers(0, end - start - max(size, 1) + 1))
    alt = edit.alt
    if edit.kind == "snv":
        known = reference[at - start : at - start + 1]
        alt = bytes([rng.choice(sorted(set(b"ACGT") - set(known)))])
    elif edit.kind == "indel":
        alt = bytes(rng.permutation(np.frombuffer(alt, np.uint8))) if alt else alt
    elif edit.kind in ("tss_ablation", "cre_ablation"):
        alt = b"N" * size
    return edit._replace(start=at, end=at + size, alt=alt, gene="")
