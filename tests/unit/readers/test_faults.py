"""Faults of count matrices, in contents and in files: each is told in one line."""

import gzip
import re

import h5py
import numpy as np
import pytest
from matrix_files import (
    BARCODES,
    COUNTS,
    FEATURES,
    WRITERS,
    write_mex,
    write_v2,
    write_v3,
)

from regulonformer.errors import InputError
from regulonformer.io.matrix import read_counts, read_header

# AnnData, as the writers use it, warns of the repeated symbol that these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:Variable names are not unique")


@pytest.mark.parametrize("layout", ["10x h5 v3", "10x mtx", "h5ad"])
@pytest.mark.parametrize(
    ("features", "counts", "barcodes", "problem"),
    [
        (FEATURES, COUNTS, ["AAA-1", "CCC-1", "AAA-1"], "barcode 'AAA-1' occurs more than once"),
        (FEATURES.assign(id=["E1", "E2", "E2", "p1", "p2"]), COUNTS, BARCODES, "gene id 'E2' occurs more than once"),
        (
            FEATURES.assign(name=["A", "B", "C", "chr1:1-2", "chr1:1-2"]),
            COUNTS,
            BARCODES,
            "peak 'chr1-1-2' occurs more",
        ),
        (FEATURES.assign(name=["A", "B", "C", "chr1:1-2", "GeneD"]), COUNTS, BARCODES, "'GeneD' is not an interval"),
        (FEATURES.assign(type="Antibody Capture"), COUNTS, BARCODES, "no feature of type 'Gene Expression' or 'Peaks'"),
        (FEATURES, COUNTS[:0], [], "the matrix has no barcodes"),
        (FEATURES, -COUNTS, BARCODES, "holds -1, which is not a count"),
    ],
)
def test_faults_of_contents_are_told_in_one_line(tmp_path, layout, features, counts, barcodes, problem):
    path = WRITERS[layout](tmp_path, features, counts, barcodes)
    read_header(path)
    with pytest.raises(InputError, match=problem) as caught:
        read_counts(path)
    assert "\n" not in str(caught.value)


def test_faults_of_files_are_told_in_one_line(tmp_path):
    (tmp_path / "text.h5").write_text("no matrix")
    h5py.File(tmp_path / "other.h5", "w").create_group("x")
    (tmp_path / "folder/GRCh38").mkdir(parents=True)
    (tmp_path / "folder/GRCh38/matrix.mtx").touch()
    faults = {
        "text.h5": "not a count matrix of a known layout. Give a 10x h5",
        "other.h5": "not a count matrix of a known layout",
        "none.h5": "file not found",
        "none.mtx.gz": "file not found",
        "folder": "no matrix.mtx or matrix.mtx.gz in this folder. Give .*folder/GRCh38",
        "folder/GRCh38": "no barcodes.tsv beside it",
    }
    for name, problem in faults.items():
        for read in (read_header, read_counts):
            with pytest.raises(InputError, match=problem):
                read(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("coordinate integer general", "array integer general", "not a sparse matrix of counts"),
        ("coordinate integer", "coordinate complex", "not a sparse matrix of counts"),
        ("5 3 5", "6 3 5", "has 6 features and 3 barcodes, but 5 and 3 are named beside it"),
        ("5 3 5", "5 3 6", "announces 6 counts and holds only 5"),
        ("5 3 5", "5 3 4", "announces 4 counts and holds more"),
        ("5 2 5", "5 2 0.5", "holds 0.5, which is not a count"),
        ("5 2 5", "9 2 5", "a count for feature 9 and barcode 2, of 5 and 3"),
        ("5 2 5", "2 2 4", "a count twice"),
        ("5 2 5", "5 2", "holds nan, which is not a count"),
        ("1 1 1", "1 1 1 1", "not a readable count matrix|has lines of 4 numbers"),
    ],
)
def test_faults_of_mtx_are_told_in_one_line(tmp_path, old, new, problem):
    folder = write_mex(tmp_path / "m", packed=True)
    text = gzip.decompress((folder / "matrix.mtx.gz").read_bytes()).decode()
    assert text.count(old) == 1
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(text.replace(old, new).encode()))
    with pytest.raises(InputError, match=problem):
        read_counts(folder)


@pytest.mark.parametrize(
    ("key", "values", "problem"),
    [
        ("indptr", [0, 3, 5], "differ in number"),
        ("indptr", [0, 5, 3, 5], "not a readable count matrix"),
        ("indices", [0, 2, 3, 1, 9], "not a readable count matrix"),
        ("indices", [0, 2, 2, 1, 4], "a count twice"),
        ("data", [1.5, 2, 3, 4, 5], "holds 1.5, which is not a count"),
        ("data", [np.nan, 2, 3, 4, 5], "holds nan"),
        ("data", [2**31, 2, 3, 4, 5], "holds 2147483648"),
        ("data", [1, 2, 3], "differ in number"),
        ("shape", [5, 4], r"says it has \(5, 4\) features and barcodes, but names \(5, 3\)"),
    ],
)
def test_faults_of_sparse_arrays_are_told_in_one_line(tmp_path, key, values, problem):
    with h5py.File(write_v3(tmp_path / "m.h5"), "a") as file:
        del file["matrix"][key]
        file["matrix"][key] = values
    with pytest.raises(InputError, match=problem):
        read_counts(tmp_path / "m.h5")


def damaged(content, rng, cut_only=False):
    """Cut, empty, flip or overwrite a file."""
    kind = rng.integers(2 if cut_only else 5)
    if kind == 0:
        return content[: rng.integers(len(content))]
    if kind == 1:
        return b""
    changed = bytearray(content)
    for place in rng.integers(0, len(content), 1 if kind == 2 else 8):
        changed[place] ^= 1 << rng.integers(8)
    if kind == 4:
        start = rng.integers(len(content))
        changed[start : start + 64] = rng.bytes(64)
    return bytes(changed)


def is_refused(path):
    """How many of the two readers refuse a file; any other error than InputError fails the test."""
    refused = 0
    for read in (read_header, read_counts):
        try:
            read(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    return refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", [*WRITERS, "10x h5 v2"])
def test_damaged_files_are_told_in_one_line(tmp_path, layout):
    rng = np.random.default_rng(0)
    path = write_v2(tmp_path / "m.h5") if layout == "10x h5 v2" else WRITERS[layout](tmp_path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    refused = 0
    for _ in range(40):
        file = files[rng.integers(len(files))]
        whole = file.read_bytes()
        # A flipped bit in a heap of texts, which h5ad and h5mu have, can make the HDF5 library itself hang.
        file.write_bytes(damaged(whole, rng, cut_only=layout in ("h5ad", "h5mu")))
        refused += is_refused(path)
        file.write_bytes(whole)
    assert refused > 10
    assert read_counts(path).rna.n_vars == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["10x h5 v3", "10x h5 v2", "h5ad", "h5mu"])
@pytest.mark.parametrize("other", [None, 7, "text", [1.5, 2.5]])
def test_a_missing_or_wrong_part_of_a_file_is_told_in_one_line(tmp_path, layout, other):
    path = write_v2(tmp_path / "m.h5") if layout == "10x h5 v2" else WRITERS[layout](tmp_path)
    whole, parts = path.read_bytes(), []
    with h5py.File(path) as file:
        file.visit(parts.append)
    # Parts that no reader looks at, and the second modality, which is read as the first.
    parts = [part for part in parts if not re.search(r"obsm|obsp|varm|varp|uns|mod/atac/", part)]
    refused = 0
    for part in parts:
        with h5py.File(path, "a") as file:
            del file[part]
            if other is not None:
                file[part] = other
        refused += is_refused(path)
        path.write_bytes(whole)
    assert refused >= len(parts) // 4
