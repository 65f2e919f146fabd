"""Whether peaks, fragments, annotation, genome and blacklist name their chromosomes alike."""

from dataclasses import dataclass

from regulonformer.io.fragments import MITOCHONDRIA
from regulonformer.validate.findings import Findings


@dataclass(frozen=True)
class Naming:
    """Chromosome names in a file, and whether they are all that it has."""

    file: str
    names: frozenset
    complete: bool = True


def judge_naming(sources: list[Naming], genomes: set[str], findings: Findings) -> None:
    """Compare every file with the one that agrees with most others; each is told of once.

    Parameters
    ----------
    sources
        Files that name chromosomes.
    genomes
        Genomes that were chosen of matrices with several, which are read without the prefix of their genome.
    findings
        Added to: `chromosomes.genome_prefix`, `.prefix`, `.disjoint`, `.mitochondrion`.
    """
    sources = [source for source in sources if source.names]
    if not sources:
        return
    anchor = max(sources, key=lambda source: sum(bool(source.names & other.names) for other in sources))
    for source in sources:
        if source.names & anchor.names:
            continue
        ours, theirs = min(source.names), min(anchor.names)
        message = f"no chromosome in common with {anchor.file} ('{ours}' here, '{theirs}' there)"
        if genome := next((genome for genome in sorted(genomes) if _meet_without(genome, source, anchor)), None):
            file = source.file if _strip(genome, source.names) & anchor.names else anchor.file
            fix = f"Peaks of the matrix are read without '{genome}_': remove it from the chromosomes of {file}"
            findings.error("chromosomes.genome_prefix", source.file, message, f"{fix}, with sed -E 's/^{genome}_+//'")
        elif _prefixed(source.names) != _prefixed(anchor.names):
            fix = "Only the prefix 'chr' differs: use a file with the same naming, or set ingest/chromosomes: chr"
            fix += " where peaks of a matrix lack it"
            findings.error("chromosomes.prefix", source.file, message, fix)
        elif source.complete and anchor.complete:
            fix = "Use the file of the genome that the reads were mapped to"
            findings.error("chromosomes.disjoint", source.file, message, fix)
    _judge_mitochondria(sources, findings)


def _strip(genome: str, names: frozenset) -> frozenset:
    """Chromosomes of one genome, without the prefix by which Cell Ranger tells it from others."""
    return frozenset(name.removeprefix(genome).lstrip("_") for name in names if name.startswith(f"{genome}_"))


def _meet_without(genome: str, source: Naming, anchor: Naming) -> bool:
    """Whether two files would share chromosomes, if neither had the prefix of a genome."""
    return bool(_strip(genome, source.names) & anchor.names or source.names & _strip(genome, anchor.names))


def _prefixed(names: frozenset) -> bool:
    """Whether most chromosomes start with "chr"."""
    return 2 * sum(name.startswith("chr") for name in names) > len(names)


def _judge_mitochondria(sources: list[Naming], findings: Findings) -> None:
    """Whether files that agree otherwise call the mitochondrial genome differently."""
    named = [(source, name) for source in sources for name in MITOCHONDRIA if name in source.names]
    for source, name in named[1:]:
        anchor, theirs = named[0]
        if name != theirs and source.names & anchor.names - set(MITOCHONDRIA):
            message = f"the mitochondrial genome is '{name}' here and '{theirs}' in {anchor.file}"
            fix = "Its fragments and genes do not meet; rename it in one of the files if you need it"
            findings.warning("chromosomes.mitochondrion", source.file, message, fix)
            return
