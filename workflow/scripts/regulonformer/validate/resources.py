"""What a run will need of memory and disk, estimated from cells and stored counts, against what there is."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from regulonformer.matrices.views import FIT_CELLS
from regulonformer.validate.findings import Findings
from regulonformer.validate.libraries import Library

MB = 1e6
# A fragment takes about this many bytes of a bgzip file, and about half of a library's fragments are in cells' peaks.
BYTES_PER_FRAGMENT, IN_PEAKS = 12, 0.5


@dataclass(frozen=True)
class Step:
    """Peak memory of a rule: what Python and its libraries take, bytes per stored count, bytes per cell.

    Attributes
    ----------
    joint
        Whether the rule streams all libraries, holding counts of at most `FIT_CELLS` cells, or holds one library.
    """

    base_mb: int
    bytes_per_count: float
    bytes_per_cell: float
    joint: bool


# Fitted from above to what was measured: on 6,000 cells with 37 million counts 3.7, 0.8 and 1.1 GB for the first three;
# with benchmarks/atlas.py on 5,000 cells with 7 million counts 0.6 (without doublets) and 0.45 GB for the first two, at
# most 0.76 GB for the others, and on 100,000 such cells 1.55 and 0.8 GB. Ingest is the largest: scoring doublets copies
# the counts several times.
STEPS = {
    "ingest_sample": Step(400, 90, 5_000, joint=False),
    "count_sample": Step(380, 12, 500, joint=False),
    "merge_samples": Step(650, 14, 6_000, joint=True),
    "build_corpus": Step(600, 4, 1_500, joint=True),
}
# Compressed sparse matrices, each with names: per library after ingest and counting, then joint, then the corpus.
BASE_DISK_MB, DISK_BYTES_PER_COUNT, DISK_BYTES_PER_FEATURE = 50, 12, 200


def judge_resources(libraries: list[Library], results, rules_mb: dict[str, int], findings: Findings) -> list[dict]:
    """Estimate memory and disk of the heavy steps, and warn of what is short.

    Parameters
    ----------
    libraries
        What headers said.
    results
        Folder that the run writes to.
    rules_mb
        Rule -> memory that it asks for (MB).
    findings
        Added to: `resources.memory`, `resources.rule_memory`, `resources.disk`.

    Returns
    -------
    list of dict
        Rows of the budget: step, needed_mb, asked_mb (None where unknown); the last row is the disk.
    """
    sizes = [_size(library) for library in libraries if library.header]
    if not sizes:
        return []
    budget = []
    for name, step in STEPS.items():
        cells, counts, _ = (sum(column) if step.joint else max(column) for column in zip(*sizes, strict=True))
        held = counts * min(1, FIT_CELLS / max(1, cells)) if step.joint else counts
        needed = round(step.base_mb + (step.bytes_per_count * held + step.bytes_per_cell * cells) / MB)
        budget.append({"step": name, "needed_mb": needed, "asked_mb": rules_mb.get(name)})
        _judge_memory(name, needed, rules_mb.get(name), findings)
    _, counts, features = (sum(column) for column in zip(*sizes, strict=True))
    disk = round(BASE_DISK_MB + (DISK_BYTES_PER_COUNT * counts + DISK_BYTES_PER_FEATURE * features) / MB)
    budget.append({"step": "disk", "needed_mb": disk, "asked_mb": None})
    if disk > (free := free_disk_mb(results)):
        message = f"the run writes about {disk:,} MB; {free:,} MB are free"
        findings.warning("resources.disk", results, message, "Free some space, or run where there is more")
    return budget


def _judge_memory(rule: str, needed: int, asked: int | None, findings: Findings) -> None:
    if needed > (machine := machine_memory_mb()):
        fix = "Run on a machine with more memory, or with fewer libraries at a time"
        message = f"needs about {needed:,} MB of memory; this machine has {machine:,} MB"
        findings.warning("resources.memory", rule, message, fix)
    elif asked and needed > asked:
        fix = f"Run with --set-resources {rule}:mem_mb={needed}"
        message = f"needs about {needed:,} MB of memory and asks for {asked:,} MB"
        findings.warning("resources.rule_memory", rule, message, fix)


def _size(library: Library) -> tuple[int, int, int]:
    """Cells, counts and features of a library; without peaks, ATAC counts are guessed from the fragment file."""
    counts = library.stored
    if not library.header.peaks and library.sample["fragments"]:
        counts += int(os.path.getsize(library.sample["fragments"]) / BYTES_PER_FRAGMENT * IN_PEAKS)
    features = len(library.header.symbols) + (0 if library.peaks is None else len(library.peaks))
    return len(library.header.barcodes), counts, features


def machine_memory_mb() -> int:
    """Memory of this machine, or of the control group that limits the process (MB)."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.isfile(file) and (text := Path(file).read_text().strip()).isdigit():
            limits.append(int(text))
    return round(min(limits) / MB)


def free_disk_mb(folder) -> int:
    """Free space where a folder is, or will be (MB)."""
    folder = Path(folder).absolute()
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    return round(shutil.disk_usage(there).free / MB)


def budget_lines(budget: list[dict], results) -> list[str]:
    """The budget as lines of a table, beside what this machine has."""
    rows = [["step", "needs (MB)", "asks for (MB)", "there is (MB)"]]
    for row in budget:
        asked = f"{row['asked_mb']:,}" if row["asked_mb"] else "-"
        there = free_disk_mb(results) if row["step"] == "disk" else machine_memory_mb()
        rows.append([row["step"], f"{row['needed_mb']:,}", asked, f"{there:,}"])
    return ["  ".join(cell.ljust(15) if i == 0 else cell.rjust(13) for i, cell in enumerate(row)) for row in rows]
