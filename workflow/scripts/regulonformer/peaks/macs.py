"""Call peaks of one library with the MACS3 command line."""

import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.io.fragments import MITOCHONDRIA, chromosomes, stream_fragments
from regulonformer.io.peaks import read_bed
from regulonformer.peaks.intervals import nuclear, select

INSTALL = "pip install 'macs3==3.0.4'"
SHIFT, EXTENSION = -75, 150


def call_library_peaks(libraries: dict, files: dict, settings: dict) -> dict[str, pd.DataFrame]:
    """Call the peaks of every library from the fragments of its kept cells.

    Parameters
    ----------
    libraries
        Library -> MuData from the ingest.
    files
        Library -> fragment file.
    settings
        Config section `features`: macs3_qvalue, macs3_genome_size.

    Returns
    -------
    dict
        Library -> peaks, as `call_peaks` returns them.
    """
    missing = sorted(set(libraries) - set(files))
    if missing:
        problem = f"libraries with neither peaks nor fragments: {', '.join(missing)}"
        raise InputError("features.peaks", problem, "Give one of them in the sample sheet")
    options = {"q_value": float(settings.get("macs3_qvalue", 0.05)), "genome_size": settings.get("macs3_genome_size")}
    return {name: call_peaks(files[name], list(data.obs["barcode"]), **options) for name, data in libraries.items()}


def call_peaks(
    fragments, barcodes: Sequence[str], *, q_value: float, genome_size: str | float | None = None
) -> pd.DataFrame:
    """Call peaks from the Tn5 cuts of the given barcodes.

    Both cuts of every fragment are handed to MACS3 as 1 bp reads, shifted by -75 and extended to 150 bp, so that the
    pile-up is centred on the cut.

    Parameters
    ----------
    fragments
        10x fragment file with its index.
    barcodes
        Barcodes whose fragments are used; mitochondrial fragments are left out.
    q_value
        False discovery rate of the peaks.
    genome_size
        Effective genome size (bp), or a MACS3 shortcut such as "hs"; None for the span that the cuts cover.

    Returns
    -------
    pandas.DataFrame
        narrowPeak columns: chrom, start, end, name, score, ..., q_value (-log10), summit (bp from start).

    Raises
    ------
    InputError
        If MACS3 is missing or fails, or the barcodes have no fragments.

    References
    ----------
    Zhang et al. 2008, Genome Biology 9:R137; https://macs3-project.github.io/MACS/docs/callpeak.html
    """
    program = find_macs3()
    with tempfile.TemporaryDirectory() as folder:
        n_cuts, span = _write_cuts(fragments, barcodes, Path(folder) / "cuts.bed")
        if n_cuts == 0:
            raise InputError(fragments, "no fragment of a kept cell", "Check that its barcodes are those of the matrix")
        command = [program, "callpeak", "--treatment", "cuts.bed", "--format", "BED", "--nomodel"]
        command += ["--shift", str(SHIFT), "--extsize", str(EXTENSION), "--keep-dup", "all", "--call-summits"]
        command += ["--qvalue", str(q_value), "--gsize", str(genome_size or span), "--name", "library"]
        logging.info("%s: %d cuts; %s", fragments, n_cuts, " ".join(command))
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(
                fragments, f"macs3 callpeak failed ({last})", "Check the fragments, or give peaks in the sample sheet"
            )
        peaks = read_bed(Path(folder) / "library_peaks.narrowPeak")
    logging.info("%s: %d peaks", fragments, len(peaks))
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


def _write_cuts(fragments, barcodes: Sequence[str], path: Path) -> tuple[int, int]:
    """Write both cuts of every fragment as BED; return their number and the bp that they span, over chromosomes."""
    names = list(dict.fromkeys([*chromosomes(fragments), *MITOCHONDRIA]))
    labels = np.array(names, dtype=object)
    first, last = np.full(len(names), np.iinfo(np.int64).max), np.zeros(len(names), np.int64)
    n_cuts = 0
    with open(path, "w") as handle:
        for batch in stream_fragments(fragments, chromosomes=names, barcodes=barcodes):
            batch = nuclear(select(batch, (batch.barcode >= 0) & (batch.chrom >= 0)), names)
            np.minimum.at(first, batch.chrom, batch.start)
            np.maximum.at(last, batch.chrom, batch.end)
            for cut in (batch.start, batch.end - 1):
                table = pd.DataFrame({"chrom": labels[batch.chrom], "start": cut, "end": cut + 1})
                table.assign(name="cut", score=0, strand="+").to_csv(handle, sep="\t", header=False, index=False)
            n_cuts += 2 * len(batch.start)
    covered = last > 0
    return n_cuts, int((last[covered] - first[covered]).sum())
