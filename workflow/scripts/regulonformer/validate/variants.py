"""Whether the edits of a file of variants fit genome, annotation and labels, judged before any compute."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.explain.variant_files import FORMATS, EditReader, Unread, read_entries
from regulonformer.io.annotation import TSS_COLUMNS, read_tss
from regulonformer.sequence.features import Genome
from regulonformer.validate.findings import Findings, some
from regulonformer.validate.libraries import Library
from regulonformer.validate.perturbation import judge_states
from regulonformer.validate.tasks import label_table

SHOWN = 5
COPY_GENOME = "Copy the genome again, whole, and run: samtools faidx"
COPY_ANNOTATION = "Give the annotation as it was published, whole and unchanged"


def judge_variants(libraries: list[Library], settings: dict, reference: dict, findings: Findings) -> None:
    """Judge every entry by the bases of the genome that it names; whether it lies in a window, its score will say.

    Parameters
    ----------
    libraries
        Libraries, read.
    settings
        `file`, and `group`, a column of the labels or None, of the section `variants`. `states`: the column of the
        groups that variants are scored in, named or not; missing or None where nothing is scored.
    reference
        Paths of `fasta` and `annotation`.
    findings
        Takes what is found; a faulty genome or annotation is among it already.
    """
    _judge_group(libraries, settings, findings)
    path, fasta, annotation = settings["file"], reference["fasta"], reference["annotation"]
    if findings.has_error(fasta) or findings.has_error(annotation):
        return
    # The reader of entries finds their faults itself: what else is raised comes of the genome.
    with findings.reading("genome.unreadable", fasta, COPY_GENOME):
        _judge_entries(path, Genome(fasta), annotation, findings)


def _judge_group(libraries: list[Library], settings: dict, findings: Findings) -> None:
    """Whether the column of cell groups is there, and none of them is called as all cells together."""
    group, states = settings["group"], settings.get("states")
    cells = label_table(libraries, findings) if group or states else pd.DataFrame()
    if cells.empty:
        return
    if group and group not in cells:
        message = f"variants/group is '{group}', which neither labels, obs nor sample sheet have"
        findings.error("variants.no_column", "config", message, f"Choose one of {', '.join(sorted(cells))}")
    judge_states("variants", cells, states, findings)


@dataclass
class _Seen:
    """How many there are of a kind, and the first of them: of a genome's millions no more is kept."""

    first: list = field(default_factory=list)
    count: int = 0

    def add(self, item) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(item)


def _judge_entries(path, genome: Genome, annotation, findings: Findings) -> None:
    """Judge one entry after the other."""
    reader, faults, unread, n_entries = EditReader(path, genome, pd.DataFrame(columns=TSS_COLUMNS)), _Seen(), _Seen(), 0
    for number, values in _entries(path, findings):
        # The TSSs of a whole genome take ten seconds to read.
        if values["gene"] and reader.tss.empty:
            with findings.reading("annotation.unreadable", annotation, COPY_ANNOTATION):
                reader.tss = read_tss(annotation)
            if reader.tss.empty:
                break
        n_entries += 1
        try:
            found = reader.read(number, values)
        except InputError as fault:
            faults.add(fault)
        else:
            if isinstance(found, Unread):
                unread.add(found.name)
    _tell(path, n_entries, faults, unread, findings)


def _entries(path, findings: Findings) -> Iterator[tuple[int, dict]]:
    """Entries up to the first that cannot be read, which is then among the findings."""
    with findings.reading("variants.unreadable", path, FORMATS):
        yield from read_entries(path)


def _tell(path, n_entries: int, faults: _Seen, unread: _Seen, findings: Findings) -> None:
    """Add the first faults, how many there are, and the entries that will not be scored."""
    for fault in faults.first:
        findings.error("variants.entry", fault.where, fault.problem, fault.fix)
    if faults.count > SHOWN:
        message = f"{faults.count:,} of {n_entries:,} entries are faulty, the first of which are told of"
        findings.error("variants.entry", path, message, "Correct them all, or remove them")
    if unread.count:
        message = (
            f"{unread.count:,} of {n_entries:,} entries are no edit of known bases; first {some(unread.first[:3])}"
        )
        findings.note("variants.no_edit", path, message, "Nothing to do: they are reported, and not scored")
