"""The sample sheet: one row per library, with paths resolved and checked."""

import csv
import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from regulonformer.errors import InputError
from regulonformer.io.mex import MTX_NAMES

# Names that Cell Ranger ARC, Cell Ranger and Cell Ranger ATAC give to the files and folders of `outs/`, best first.
OUTS = {
    "matrix": ("filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix", "filtered_peak_bc_matrix.h5"),
    "fragments": ("atac_fragments.tsv.gz", "fragments.tsv.gz"),
    "peaks": ("atac_peaks.bed", "peaks.bed"),
    "barcode_metrics": ("per_barcode_metrics.csv",),
}
FILES = (*OUTS, "peak_matrix", "labels")
# Files that tell of ATAC alone: a library that is RNA only has none of them.
ATAC_FILES = ("fragments", "peaks", "barcode_metrics", "peak_matrix")
MODALITIES = ("", "rna", "atac")
# Layouts that may hold labels in a table of cells.
WITH_CELL_TABLE = (".h5ad", ".h5mu")
RENAMED = {"matrix_h5": "matrix"}
DESCRIBING = ("donor", "batch", "condition")
KNOWN = ("sample", "outs", "genome", "modality", *FILES, *DESCRIBING)
SAMPLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def expand_path(path: str | None, where: str) -> str | None:
    """Replace `${VARIABLE}` and `~` in a path.

    Raises
    ------
    InputError
        If a variable is not set.
    """
    if not path:
        return None
    expanded = os.path.expanduser(os.path.expandvars(path))
    if left := re.search(r"\$\{?(\w+)\}?", expanded):
        raise InputError(
            where, f"{path!r} uses the environment variable {left[1]}, which is not set", f"export {left[1]}=..."
        )
    return expanded


def is_there(path: str, simulated: bool = False, downloads=()) -> bool:
    """Whether a file or folder exists, or the run makes or downloads it before it is read."""
    folder = f"{path.rstrip('/')}/"
    return simulated or Path(path).exists() or any(file == path or file.startswith(folder) for file in downloads)


def read_samples(path: str, simulated: bool = False, downloads=()) -> list[dict]:
    """Read and check the sample sheet.

    Parameters
    ----------
    path
        TSV with the columns `sample`, `outs` (or explicit `matrix`, `peak_matrix`, `fragments`, `peaks`,
        `barcode_metrics`), `genome`, and optional `modality`, `donor`, `batch`, `condition`, `labels`; further columns
        become cell metadata.
    simulated
        Whether the libraries are yet to be simulated, so that their files need not exist.
    downloads
        Files that are yet to be downloaded and need not exist either.

    Returns
    -------
    list of dict
        One per library: its files as paths or None, what describes it as text, and any further columns.

    Raises
    ------
    InputError
        Names the sheet, the row and the fix.
    """
    if not Path(path).is_file():
        raise InputError(path, "no such sample sheet", "Point the config key 'samples' to your sheet")
    with open(path, newline="") as handle:
        lines = (line for line in handle if line.strip() and not line.startswith("#"))
        rows = list(csv.DictReader(lines, delimiter="\t"))
    if not rows:
        raise InputError(path, "the sheet has no rows", "Add one row per library")
    if "sample" not in rows[0]:
        raise InputError(
            path,
            f"no column 'sample' among {', '.join(map(str, rows[0]))}",
            "Separate columns by tabs and name the first one 'sample'",
        )
    if old := next((column for column in rows[0] if column in RENAMED), None):
        raise InputError(path, f"column '{old}' is now called '{RENAMED[old]}'", "Rename it in the first line")
    samples = [_read_row(row, path, simulated, downloads) for row in rows]
    names = [sample["sample"] for sample in samples]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            path, f"sample '{twice[0]}' stands {names.count(twice[0])} times", "Give every library a name of its own"
        )
    genomes = sorted({sample["genome"] for sample in samples})
    if len(genomes) > 1:
        raise InputError(
            path, f"several genomes: {', '.join(genomes)}", "Run one genome at a time, each with its own 'run' name"
        )
    return samples


def _read_row(row: dict, path: str, simulated: bool, downloads) -> dict:
    """Check one row of the sheet and resolve its files."""
    cells = {key: (value or "").strip() for key, value in row.items() if key is not None}
    name = cells["sample"]
    where = f"{path}, sample '{name}'"
    if not SAMPLE_NAME.fullmatch(name):
        raise InputError(
            path, f"sample name {name!r}", "Use letters, digits, '_', '-' and '.' only, starting with a letter or digit"
        )
    modality = cells.get("modality", "").lower()
    if modality not in MODALITIES:
        fix = "Write rna or atac for a library of which that modality alone counts, or leave it empty"
        raise InputError(where, f"modality is {cells['modality']!r}", fix)
    files = _find_files(cells, where, simulated, downloads, modality)
    describing = {key: cells.get(key) or (name if key == "donor" else "") for key in DESCRIBING}
    further = {key: value for key, value in sorted(cells.items()) if key not in KNOWN}
    row = {"sample": name, "genome": cells.get("genome", ""), "modality": modality}
    return {**row, **files, **describing, **further}


def may_have_label(sample: dict, column: str) -> bool:
    """Whether cells of a library may have a value in a column: by the sheet, a labels file, or the matrix's own table.

    Folds and transfer are planned by this: of files no more than the names of columns are read.

    Raises
    ------
    InputError
        If that takes h5py, and only Snakemake is installed where runs are planned.
    """
    matrices = [sample[key] for key in ("matrix", "peak_matrix") if sample.get(key)]
    return bool(sample.get(column) or sample["labels"] or any(_may_have_column(path, column) for path in matrices))


def _may_have_column(path: str, column: str) -> bool:
    """Whether a matrix has a column in a table of cells; of one yet to be made, whether its layout has them."""
    if not Path(path).exists():
        return path.endswith(WITH_CELL_TABLE)
    return column in _cell_columns(path, Path(path).stat().st_mtime_ns)


@lru_cache
def _cell_columns(path: str, changed: int) -> frozenset:
    """Columns of the tables of cells in an h5ad or h5mu file as it was when it changed last; none in other files."""
    try:
        import h5py
    except ModuleNotFoundError:
        # 10x files hold no labels: one without them must not ask for h5py.
        if path.endswith(".h5") or not _is_hdf5(path):
            return frozenset()
        problem = "labels may lie in its table obs, and h5py, which reads it, is not installed where Snakemake runs"
        fix = "pip install h5py there, or give labels in a file (column labels) or in a column of the sheet"
        raise InputError(path, problem, fix) from None
    if not h5py.is_hdf5(path):
        return frozenset()
    with suppress(OSError), h5py.File(path) as file:  # a damaged file is a finding of validate_inputs
        groups = [file, *(file["mod"].values() if "mod" in file else ())]
        tables = [group["obs"] for group in groups if isinstance(group.get("obs"), h5py.Group)]
        return frozenset(column for table in tables for column in table)
    return frozenset()


def _is_hdf5(path: str) -> bool:
    """Whether a file begins as HDF5 does."""
    with open(path, "rb") as handle:
        return handle.read(8) == b"\x89HDF\r\n\x1a\n"


def _find_files(cells: dict, where: str, simulated: bool, downloads, modality: str) -> dict:
    """Resolve the files of one library: explicit columns first, then `outs/`."""
    if modality == "rna" and (told := next((key for key in ATAC_FILES if cells.get(key)), None)):
        raise InputError(where, f"modality is rna, but {told} is given", f"Empty the column modality, or {told}")
    outs = expand_path(cells.get("outs"), where)
    if outs and not is_there(outs, simulated, downloads):
        raise InputError(
            where, f"outs folder {outs} does not exist", "Check the path; it is relative to the working directory"
        )
    wanted = [key for key in FILES if modality != "rna" or key not in ATAC_FILES]
    files = dict.fromkeys(FILES) | {key: _find_file(key, cells, outs, where, simulated, downloads) for key in wanted}
    if not files["matrix"]:
        missing = f"{outs} holds no {' or '.join(OUTS['matrix'])}" if outs else "neither outs nor matrix is given"
        raise InputError(where, missing, "Give the folder that Cell Ranger names 'outs', or the column matrix")
    if files["fragments"] and not is_there(files["fragments"] + ".tbi", simulated, downloads):
        raise InputError(
            files["fragments"], "the fragment file has no index (.tbi)", f"Run: tabix -p bed {files['fragments']}"
        )
    return files


def _find_file(key: str, cells: dict, outs: str | None, where: str, simulated: bool, downloads) -> str | None:
    """One file of a library; of a MEX folder its matrix.mtx, because Snakemake compares the times of files."""
    given = expand_path(cells.get(key), where)
    places = [given] if given else [f"{outs.rstrip('/')}/{name}" for name in OUTS.get(key, ())] if outs else []
    for place in places:
        inside = [f"{place.rstrip('/')}/{name}" for name in MTX_NAMES] if key in ("matrix", "peak_matrix") else []
        for file in (place, *inside):
            if simulated or file in downloads or Path(file).is_file():
                return file
    if given:
        problem = f"{key} file {given} does not exist"
        if Path(given).is_dir():
            problem = f"{key} {given} is a folder" + (" without matrix.mtx" if "matrix" in key else "")
        raise InputError(where, problem, "Check the path; it is relative to the working directory")
    return None
