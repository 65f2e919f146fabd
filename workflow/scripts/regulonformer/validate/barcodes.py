"""Whether two files name the same barcodes, and if not, what must be changed."""

import re
from collections import Counter
from collections.abc import Iterable

# The DNA of a barcode between whatever was put before and after it.
CORE = re.compile(r"^(.*?)([ACGTN]{8,})(.*)$", re.DOTALL)


def affixes(names: Iterable[str]) -> tuple[str, str]:
    """The commonest text before and after the DNA of barcodes."""
    parts = Counter((match[1], match[3]) for name in names if (match := CORE.match(name)))
    return max(parts, key=lambda pair: (parts[pair], pair), default=("", ""))


def cores(names: Iterable[str]) -> set[str]:
    """The DNA of barcodes."""
    return {match[2] for name in names if (match := CORE.match(name))}


def naming_hint(names: Iterable[str], wanted: Iterable[str], who: str) -> str:
    """Say how barcodes must change to become those of the matrix.

    Parameters
    ----------
    names
        Barcodes of a file.
    wanted
        Barcodes of the matrix.
    who
        What the file holds, as the subject of the sentence.

    Returns
    -------
    str
        Such as "labels lack the suffix '-1'"; empty where the DNA differs as well or nothing is to be changed.
    """
    names, wanted = list(names), list(wanted)
    if not cores(names) & cores(wanted):
        return ""
    (prefix, suffix), (wanted_prefix, wanted_suffix) = affixes(names), affixes(wanted)
    changes = []
    for kind, ours, theirs in (("prefix", prefix, wanted_prefix), ("suffix", suffix, wanted_suffix)):
        if ours == theirs:
            continue
        if not ours:
            changes.append(f"lack the {kind} {theirs!r}")
        elif not theirs:
            changes.append(f"have the {kind} {ours!r} too much")
        else:
            changes.append(f"have the {kind} {ours!r} instead of {theirs!r}")
    return f"{who} {' and '.join(changes)}" if changes else ""
