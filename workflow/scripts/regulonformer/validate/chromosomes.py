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


def judge_naming(sources: list[Naming], findings: Findings) -> None:
    """Compare every file with the one that agrees with most others; each is told of once."""
    sources = [source for source in sources if source.names]
    if not sources:
        return
    anchor = max(sources, key=lambda source: sum(bool(source.names & other.names) for other in sources))
    for source in sources:
        if source.names & anchor.names:
            continue
        ours, theirs = min(source.names), min(anchor.names)
        message = f"no chromosome in common with {anchor.file} ('{ours}' here, '{theirs}' there)"
        if _prefixed(source.names) != _prefixed(anchor.names):
            fix = "Only the prefix 'chr' differs: use a file with the same naming"
            findings.error("chromosomes.prefix", source.file, message, fix)
        elif source.complete and anchor.complete:
            fix = "Use the file of the genome that the reads were mapped to"
            findings.error("chromosomes.disjoint", source.file, message, fix)
    _judge_mitochondria(sources, findings)


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
