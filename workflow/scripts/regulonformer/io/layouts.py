"""The layouts of count matrices: which one a file has, and who reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py

from regulonformer.errors import InputError
from regulonformer.io import anndata_files, mex, tenx
from regulonformer.io.contents import Contents


class Layout(NamedTuple):
    """Readers of one layout: of the names in a file, and of the counts that belong to them."""

    read_names: Callable
    read_counts: Callable


V3 = Layout(tenx.read_v3_names, tenx.read_v3_counts)
V2 = Layout(tenx.read_v2_names, tenx.read_v2_counts)
MEX = Layout(mex.read_mex_names, mex.read_mex_counts)
H5MU = Layout(anndata_files.read_h5mu_names, anndata_files.read_h5mu_counts)
H5AD = Layout(anndata_files.read_h5ad_names, anndata_files.read_h5ad_counts)


def file_to_open(path):
    """The file itself; of a MEX folder its matrix.mtx."""
    if not Path(path).is_dir():
        return path
    if found := mex.find_mtx(path):
        return found
    inner = ", ".join(str(folder) for folder in sorted(Path(path).iterdir()) if mex.find_mtx(folder))
    fix = f"Give {inner or 'the folder that holds it'}"
    raise InputError(path, "no matrix.mtx or matrix.mtx.gz in this folder", fix)


def tell_layout(file) -> Layout:
    """Tell the layout from what is in the file, not from its name; a matrix.mtx alone goes by its name."""
    with open(file, "rb"):  # for the plain error of a missing or forbidden file
        pass
    if mex.is_mtx(file):
        return MEX
    if h5py.is_hdf5(file):
        with h5py.File(file) as content:
            if "matrix" in content:
                return V3
            if "mod" in content:
                return H5MU
            if "obs" in content and "var" in content:
                return H5AD
            if tenx.v2_genomes(content):
                return V2
    fix = "Give a 10x h5, a MEX folder or its matrix.mtx, an h5mu or an h5ad"
    raise InputError(file, "not a count matrix of a known layout", fix)


def names_in(file, layout: Layout, modality: str) -> Contents:
    """Names in a file; of an h5mu, the one layout whose modalities may have cells of their own, those of a modality."""
    return layout.read_names(file, **({"modality": modality} if layout is H5MU else {}))


def count_options(path, layout: Layout, recover: bool, layer: str | None) -> dict:
    """What a layout is asked for besides: 10x files hold counts alone, and h5ad alone has layers."""
    if layer and layout is not H5AD:
        fix = "Give an h5ad with layers spliced and unspliced, or set ingest/second_modality: accessibility"
        raise InputError(path, f"is no h5ad, and so has no layers[{layer!r}]", fix)
    options = {"raw": False} if recover and layout in (H5AD, H5MU) else {}
    return options | ({"layer": layer} if layer else {})
