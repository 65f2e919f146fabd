"""Coordinates of spatial data go with the cells, from the user's file to the file of all libraries."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import count_sample
import ingest_sample
import merge_samples
from regulonformer.config.schema import check_settings, read_yaml
from regulonformer.errors import InputError
from regulonformer.io.anndata_files import read_places
from regulonformer.io.store import read_mudata

SCHEMAS = Path(merge_samples.__file__).parents[1] / "schemas"
GENES = [f"GENE{i}" for i in range(40)]
PEAKS = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(1, 31)]


def library(path, n=30, places=True):
    """A spatial library of RNA and ATAC in one h5ad, each cell known by its number of counts of the first gene."""
    rng = np.random.default_rng(len(path.stem))
    counts = rng.poisson(2, (n, len(GENES) + len(PEAKS)))
    counts[:, 0] = np.arange(1, n + 1)
    var = pd.DataFrame(
        {"feature_types": ["Gene Expression"] * len(GENES) + ["Peaks"] * len(PEAKS)}, index=GENES + PEAKS
    )
    data = ad.AnnData(sparse.csr_matrix(counts), obs=pd.DataFrame(index=[f"bc{i}" for i in range(n)]), var=var)
    if places:
        data.obsm["spatial"] = np.column_stack([counts[:, 0], -counts[:, 0], np.zeros(n)])
    data.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """Two libraries as the rules take them, one with places and one without."""
    folder = tmp_path_factory.mktemp("spatial")
    (folder / "peaks.bed").write_text("".join(f"chr1\t{1000 * i}\t{1000 * i + 500}\n" for i in range(1, 31)))
    schema = read_yaml(SCHEMAS / "config.schema.yaml")["properties"]["ingest"]
    loose = {"min_genes": None, "min_peaks": None, "n_mads": None, "doublets": False}
    settings = check_settings(loose, schema, "ingest")
    for name, places in (("tissue", True), ("cells", False)):
        ingest_sample.main(
            matrix=library(folder / f"{name}.h5ad", places=places),
            sample={"sample": name, "donor": name, "batch": "", "condition": "", "genome": ""},
            settings=settings,
            output_mudata=folder / f"{name}.h5mu",
            output_cells=folder / f"{name}.parquet",
            output_qc=folder / f"{name}.json",
        )
        count_sample.main(
            ingested=folder / f"{name}.h5mu",
            peaks=folder / "peaks.bed",
            settings={},
            output=folder / f"{name}.counts.h5mu",
            output_summary=folder / f"{name}.counts.json",
        )
    merge_samples.main(
        counts=[folder / "tissue.counts.h5mu", folder / "cells.counts.h5mu"],
        settings={"min_cells_gene": 1, "min_cells_peak": 1, "n_components": 5},
        output=folder / "multiome.h5mu",
        output_summary=folder / "merge.json",
    )
    return read_mudata(folder / "multiome.h5mu")


def test_every_cell_keeps_its_place(merged):
    first = np.asarray(merged["rna"][:, "GENE0"].X.todense()).ravel()
    inside = (merged.obs["sample"] == "tissue").to_numpy()
    places = np.asarray(merged.obsm["spatial"])
    assert inside.sum() > 20
    np.testing.assert_array_equal(places[inside], np.column_stack([first, -first])[inside])
    assert (merged.obs["spatial_x"].to_numpy()[inside] == first[inside]).all()


def test_a_library_without_coordinates_has_none(merged):
    inside = (merged.obs["sample"] == "tissue").to_numpy()
    assert np.isnan(np.asarray(merged.obsm["spatial"])[~inside]).all() and (~inside).sum() > 20


def test_coordinates_that_are_no_numbers_are_refused(tmp_path):
    data = ad.AnnData(np.ones((3, 2)))
    data.obsm["spatial"] = np.ones((3, 1))
    data.write_h5ad(tmp_path / "flat.h5ad")
    with pytest.raises(InputError, match=r"shape \(3, 1\).*2 coordinates"):
        read_places(tmp_path / "flat.h5ad")
    (tmp_path / "matrix.mtx").write_text("%%MatrixMarket")
    assert read_places(tmp_path / "matrix.mtx") is None
