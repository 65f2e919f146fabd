"""One small library, written in every layout of count matrices."""

import gzip
import io

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import scipy.io
from scipy import sparse

GENES, PEAKS = "Gene Expression", "Peaks"
FEATURES = pd.DataFrame(
    {
        "id": ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "chr1:100-200", "chr2:5-50"],
        "name": ["GeneA", "GeneB", "GeneB", "chr1:100-200", "chr2:5-50"],
        "type": [GENES] * 3 + [PEAKS] * 2,
        "genome": "GRCh38",
    }
)
COUNTS = np.array([[1, 0, 2, 3, 0], [0, 4, 0, 0, 5], [0, 0, 0, 0, 0]])  # barcodes x features
BARCODES = ["AAA-1", "CCC-1", "GGG-1"]


def write_v3(path, features=FEATURES, counts=COUNTS, barcodes=BARCODES):
    """A 10x v3 matrix, in which features are rows and barcodes columns."""
    matrix = sparse.csc_matrix(np.asarray(counts).T)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, "S")
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        group["shape"] = np.array(matrix.shape, "i4")
        columns = {"id": "id", "name": "name", "feature_type": "type", "genome": "genome", "interval": "interval"}
        for key, column in columns.items():
            if column in features:
                group[f"features/{key}"] = np.array(features[column].tolist(), "S")
    return path


def write_v2(path, genomes=None, barcodes=BARCODES):
    """A 10x v2 matrix: a group per genome (name -> features, counts), genes only."""
    genomes = genomes or {"GRCh38": (FEATURES[:3], COUNTS[:, :3])}
    with h5py.File(path, "w") as file:
        for genome, (features, counts) in genomes.items():
            matrix = sparse.csc_matrix(np.asarray(counts).T)
            group = file.create_group(genome)
            group["barcodes"], group["shape"] = np.array(barcodes[: matrix.shape[1]], "S"), matrix.shape
            group["genes"] = np.array(features["id"].tolist(), "S")
            group["gene_names"] = np.array(features["name"].tolist(), "S")
            group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
    return path


def write_mex(folder, features=FEATURES, counts=COUNTS, barcodes=BARCODES, packed=True):
    """A MEX folder as Cell Ranger 3 and later writes it, or (plain, genes.tsv) as before."""
    folder.mkdir()
    text = io.BytesIO()
    scipy.io.mmwrite(
        text, sparse.coo_matrix(np.asarray(counts).T), comment="metadata", field="integer", symmetry="general"
    )
    columns = [column for column in ("id", "name", "type", "chrom", "start", "end") if column in features]
    table = features[columns if packed else columns[:2]].agg("\t".join, axis=1)
    files = {
        "matrix.mtx": text.getvalue(),
        "barcodes.tsv": "".join(f"{name}\n" for name in barcodes).encode(),
        "features.tsv" if packed else "genes.tsv": "".join(f"{line}\n" for line in table).encode(),
    }
    for name, content in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content)) if packed else (folder / name).write_bytes(content)
    return folder


def make_anndata(features=FEATURES, counts=COUNTS, barcodes=BARCODES, layer=None):
    """AnnData as scanpy and muon make it of a 10x matrix."""
    columns = {"id": "gene_ids", "type": "feature_types", "genome": "genome", "interval": "interval"}
    var = features.set_axis(features["name"].rename(None)).rename(columns=columns)[
        [new for old, new in columns.items() if old in features]
    ]
    matrix = sparse.csr_matrix(np.asarray(counts))
    x = sparse.csr_matrix(np.log1p(matrix.toarray())) if layer else matrix
    return anndata.AnnData(x, pd.DataFrame(index=barcodes), var, layers={layer: matrix} if layer else None)


def write_h5ad(path, *arguments, **options):
    make_anndata(*arguments, **options).write_h5ad(path)
    return path


def write_h5mu(path, features=FEATURES, counts=COUNTS, barcodes=BARCODES, names=("rna", "atac"), typed=True):
    """One modality per feature type, in order of appearance; `typed`: with var["feature_types"]."""
    modalities = {}
    for name, kind in zip(names, dict.fromkeys(features["type"]), strict=True):
        of_kind = (features["type"] == kind).to_numpy()
        part = make_anndata(features[of_kind], np.asarray(counts)[:, of_kind], barcodes)
        modalities[name] = part if typed else part[:, :].copy()
        if not typed:
            del modalities[name].var["feature_types"]
        modalities[name].var_names_make_unique()
    with mudata.set_options(pull_on_update=False):
        mudata.MuData(modalities).write_h5mu(path)
    return path


WRITERS = {
    "10x h5 v3": lambda folder, *arguments: write_v3(folder / "m.h5", *arguments),
    "10x mtx": lambda folder, *arguments: write_mex(folder / "m", *arguments),
    "h5ad": lambda folder, *arguments: write_h5ad(folder / "m.h5ad", *arguments),
    "h5mu": lambda folder, *arguments: write_h5mu(folder / "m.h5mu", *arguments),
}
