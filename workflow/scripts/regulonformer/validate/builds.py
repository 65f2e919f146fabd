"""Which genome build coordinates belong to, told from how far they reach on each chromosome."""

import os

from regulonformer.io.peaks import chromosome_lengths
from regulonformer.validate.findings import Findings, some

# Lengths (bp) of chromosomes 1, 2, ..., X, Y; UCSC chromosome sizes of each assembly.
_HUMAN, _MOUSE = [*map(str, range(1, 23)), "X", "Y"], [*map(str, range(1, 20)), "X", "Y"]
_LENGTHS = {
    "hg38": (
        _HUMAN,
        "248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636 138394717 133797422 135086622 "
        "133275309 114364328 107043718 101991189 90338345 83257441 80373285 58617616 64444167 46709983 50818468 "
        "156040895 57227415",
    ),
    "hg19": (
        _HUMAN,
        "249250621 243199373 198022430 191154276 180915260 171115067 159138663 146364022 141213431 135534747 135006516 "
        "133851895 115169878 107349540 102531392 90354753 81195210 78077248 59128983 63025520 48129895 51304566 "
        "155270560 59373566",
    ),
    "mm10": (
        _MOUSE,
        "195471971 182113224 160039680 156508116 151834684 149736546 145441459 129401213 124595110 130694993 122082543 "
        "120129022 120421639 124902244 104043685 98207768 94987271 90702639 61431566 171031299 91744698",
    ),
    "mm39": (
        _MOUSE,
        "195154279 181755017 159745316 156860686 151758149 149588044 144995196 130127694 124359700 130530862 121973369 "
        "120092757 120883175 125139656 104073951 98008968 95294699 90720763 61420004 169476592 91455967",
    ),
}
BUILDS = {
    build: dict(zip(names, map(int, lengths.split()), strict=True)) for build, (names, lengths) in _LENGTHS.items()
}
# Peaks of fixed width around a summit near an end may stick out so far (bp).
OVERHANG = 1000
NAMES = {name for lengths in BUILDS.values() for name in lengths}


def possible_builds(ends: dict[str, int]) -> set[str]:
    """Builds whose chromosomes are all long enough.

    Parameters
    ----------
    ends
        Chromosome -> largest end seen (bp), named with or without "chr"; scaffolds do not count.

    Returns
    -------
    set of str
        All builds if nothing is known of any chromosome.
    """
    places = {bare: end for name, end in ends.items() if (bare := name.removeprefix("chr")) in NAMES}
    return {
        build for build, lengths in BUILDS.items() if all(end <= lengths.get(name, 0) for name, end in places.items())
    }


def thresholds(names, lengths: dict[str, int] | None) -> dict[str, set[int]]:
    """Positions beyond which a fragment tells builds apart, or is off the end of the given genome, by chromosome."""
    genomes = [*BUILDS.values(), *([lengths] if lengths else [])]
    return {
        name: {genome[key] for genome in genomes for key in {name, name.removeprefix("chr")} & genome.keys()}
        for name in names
    }


def judge_ends(extents: dict[str, dict[str, int]], fasta, lengths: dict[str, int] | None, findings: Findings) -> None:
    """Whether all inputs fit on the chromosomes of the genome, and are of the same build.

    Parameters
    ----------
    extents
        File -> chromosome -> largest end (bp).
    fasta
        Genome file, to be named.
    lengths
        Its chromosome lengths, or None without a genome.
    findings
        Added to: `genome.beyond_end`, `genome.overhang`, `genome.builds_differ`.
    """
    for file, ends in extents.items():
        beyond = {name: end - lengths[name] for name, end in ends.items() if lengths and end > lengths.get(name, end)}
        if not beyond:
            continue
        name = max(beyond, key=beyond.get)
        message = f"reaches to {name}:{ends[name]:,}, but {name} has {lengths[name]:,} bp in {fasta}"
        if beyond[name] <= OVERHANG:
            findings.warning("genome.overhang", file, message, "What is off the end is cut or left out, and counted")
        else:
            fix = "Give peaks, fragments, annotation and FASTA of one genome build"
            looks = f" (this file looks like {_either(builds)})" if (builds := possible_builds(ends)) else ""
            findings.error("genome.beyond_end", file, message + looks, fix)
    builds = {file: possible_builds(ends) for file, ends in extents.items()}
    if lengths:
        builds[fasta] = {build for build in BUILDS if _is_build(lengths, build)} or set(BUILDS)
    anchor = next((file for file, found in builds.items() if 0 < len(found) < len(BUILDS)), None)
    for file, found in builds.items():
        if anchor is not None and not found & builds[anchor] and not findings.has_error(str(file)):
            message = f"looks like {_either(found)}, but {anchor} like {_either(builds[anchor])}"
            fix = "Give all inputs of one genome build; lift over what is of another"
            findings.warning("genome.builds_differ", file, message, fix)


def _is_build(lengths: dict[str, int], build: str) -> bool:
    """Whether chromosomes have exactly the lengths of a build, and there are some."""
    shared = [(length, BUILDS[build].get(name.removeprefix("chr"))) for name, length in lengths.items()]
    shared = [(length, wanted) for length, wanted in shared if wanted]
    return bool(shared) and all(length == wanted for length, wanted in shared)


def _either(builds: set[str]) -> str:
    return " or ".join(sorted(builds)) or f"none of {', '.join(BUILDS)}"


def judge_genome(fasta, findings: Findings) -> dict[str, int] | None:
    """Read the index of a genome; None where it cannot be used."""
    index, fix = f"{fasta}.fai", f"Run: samtools faidx {fasta}"
    if not os.path.isfile(index):
        findings.error("genome.unindexed", fasta, "the genome has no index (.fai)", fix)
        return None
    lengths = None
    with findings.reading("genome.index_unreadable", index, fix):
        lengths = chromosome_lengths(index)
        if not lengths or min(lengths.values()) <= 0:
            raise ValueError(f"no chromosome with a length among {some(lengths)}")
    start = b">"
    with findings.reading("genome.not_fasta", fasta, "Give the genome as FASTA"), open(fasta, "rb") as handle:
        start = handle.read(2)
    if start[:1] != b">" and start != b"\x1f\x8b":
        findings.error("genome.not_fasta", fasta, f"starts with {start!r}, not with '>'", "Give the genome as FASTA")
    elif lengths and start[:1] == b">" and sum(lengths.values()) > os.path.getsize(fasta):
        findings.error("genome.index_contigs", index, "the index names more sequence than the file has", fix)
    if os.path.getmtime(index) < os.path.getmtime(fasta) - 1:
        findings.warning("genome.index_old", index, "the index is older than the genome", fix)
    return lengths
