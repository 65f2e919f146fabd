"""Call peaks of libraries, or of groups of cells, with the MACS3 command line."""

import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.io.fragments import MITOCHONDRIA, chromosomes, stream_fragments
from regulonformer.io.peaks import read_bed
from regulonformer.peaks.intervals import nuclear, select

INSTALL = "pip install 'macs3==3.0.4'"
SHIFT, EXTENSION = -75, 150


class Group(NamedTuple):
    """Cells whose peaks are called together.

    Attributes
    ----------
    n_cells
        Number of cells.
    sources
        Fragment file and barcodes, one pair per library.
    """

    n_cells: int
    sources: list[tuple[str, list[str]]]


def group_cells(cells: dict[str, pd.DataFrame], files: dict, column: str) -> tuple[dict[str, Group], int]:
    """Divide the cells of all libraries into groups by a column; a group pools cells of several libraries.

    Parameters
    ----------
    cells
        Library -> table of cells with `barcode` and the column.
    files
        Library -> fragment file.
    column
        `sample`, `donor`, `condition` or any other column of sheet or labels.

    Returns
    -------
    groups
        Value of the column -> group, by name.
    n_without
        Cells without a value, which take no part in peak calling.

    Raises
    ------
    InputError
        If a library has no fragments, or no cell has a value.
    """
    if missing := sorted(set(cells) - set(files)):
        problem = f"libraries with neither peaks nor fragments: {', '.join(missing)}"
        raise InputError("features.peaks", problem, "Give one of them in the sample sheet")
    groups, n_without = {}, 0
    for library, table in cells.items():
        # A library without the column has no labels: its cells are counted below.
        values = table.get(column, pd.Series("", table.index)).astype(object).fillna("").astype(str)
        n_without += int((values == "").sum())
        for value, barcodes in table["barcode"].astype(str).groupby(values):
            if value:
                before = groups.get(value, Group(0, []))
                source = (files[library], barcodes.tolist())
                groups[value] = Group(before.n_cells + len(barcodes), [*before.sources, source])
    if not groups:
        known = sorted({str(name) for table in cells.values() for name in table.columns})
        problem = f"is '{column}', but no cell has a value of it"
        raise InputError("features.peak_group", problem, f"Choose one of {', '.join(known)}")
    return dict(sorted(groups.items())), n_without


def call_peaks(
    sources: Sequence[tuple[str, Sequence[str]]],
    *,
    q_value: float,
    genome_size: str | float | None = None,
    threads: int = 1,
) -> pd.DataFrame:
    """Call peaks from the Tn5 cuts of the given cells, pooled.

    Both cuts of every fragment are handed to MACS3 as 1 bp reads, shifted by -75 and extended to 150 bp, so that the
    pile-up is centred on the cut.

    Parameters
    ----------
    sources
        10x fragment files and the barcodes whose fragments are used; mitochondrial fragments are left out.
    q_value
        False discovery rate of the peaks.
    genome_size
        Effective genome size (bp), or a MACS3 shortcut such as "hs"; None for the span that the cuts cover.
    threads
        Threads that read fragments; MACS3 itself has one.

    Returns
    -------
    pandas.DataFrame
        narrowPeak columns: chrom, start, end, name, score (-log10 q), ..., summit (bp from start); no row where the
        cells have no fragments.

    Raises
    ------
    InputError
        If MACS3 is missing or fails.

    References
    ----------
    Zhang et al. 2008, Genome Biology 9:R137; https://macs3-project.github.io/MACS/docs/callpeak.html
    """
    program, where = find_macs3(), ", ".join(str(path) for path, _ in sources)
    with tempfile.TemporaryDirectory() as folder:
        n_cuts, span = write_cuts(sources, Path(folder) / "cuts.bed", threads=threads)
        if n_cuts == 0:
            logging.warning("%s: no fragment of these cells", where)
            return pd.DataFrame({"chrom": [], "start": [], "end": []}).astype({"start": np.int64, "end": np.int64})
        command = [program, "callpeak", "--treatment", "cuts.bed", "--format", "BED", "--nomodel"]
        command += ["--shift", str(SHIFT), "--extsize", str(EXTENSION), "--keep-dup", "all", "--call-summits"]
        command += ["--qvalue", str(q_value), "--gsize", str(genome_size or span), "--name", "called"]
        logging.info("%s: %d cuts; %s", where, n_cuts, " ".join(command))
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            fix = "Check the fragments, or give peaks in the sample sheet"
            raise InputError(where, f"macs3 callpeak failed ({last})", fix)
        peaks = read_bed(Path(folder) / "called_peaks.narrowPeak")
    logging.info("%s: %d peaks", where, len(peaks))
    # With --call-summits a peak of several summits is on several lines, which share its interval: each is one summit.
    return peaks.assign(score=peaks.get("q_value", 0.0))


def find_macs3() -> str:
    """Path of the macs3 program: on the PATH, or beside the Python that runs."""
    program = shutil.which("macs3") or shutil.which("macs3", path=str(Path(sys.executable).parent))
    if program is None:
        raise InputError(
            "features.peaks",
            "no library has peaks, and macs3, which would call them, is not installed",
            f"Run `{INSTALL}` (it is built from source and needs a C compiler), or give peaks in the sample sheet",
        )
    return program


def write_cuts(sources, path: Path, *, threads: int = 1) -> tuple[int, int]:
    """Write both cuts of every fragment as BED; return their number and the bp that they span, over chromosomes."""
    names = list(dict.fromkeys(name for file, _ in sources for name in [*chromosomes(file), *MITOCHONDRIA]))
    labels = np.array(names, dtype=object)
    first, last = np.full(len(names), np.iinfo(np.int64).max), np.zeros(len(names), np.int64)
    n_cuts = 0
    with open(path, "w") as handle:
        for fragments, barcodes in sources:
            for batch in stream_fragments(fragments, chromosomes=names, barcodes=barcodes, threads=threads):
                batch = nuclear(select(batch, (batch.barcode >= 0) & (batch.chrom >= 0)), names)
                np.minimum.at(first, batch.chrom, batch.start)
                np.maximum.at(last, batch.chrom, batch.end)
                for cut in (batch.start, batch.end - 1):
                    table = pd.DataFrame({"chrom": labels[batch.chrom], "start": cut, "end": cut + 1})
                    table.assign(name="cut", score=0, strand="+").to_csv(handle, sep="\t", header=False, index=False)
                n_cuts += 2 * len(batch.start)
    covered = last > 0
    return n_cuts, int((last[covered] - first[covered]).sum())
