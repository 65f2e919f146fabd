"""Read single result files as the report needs them: of large ones only what is drawn."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from regulonformer.io.store import read_parquet

# Folds and seeds are names: "pooled" stands beside 0, 1, 2.
TEXT = dict.fromkeys(("fold", "seed", "dataset", "method", "metric", "class", "gene", "tf"), str)


@dataclass
class CellMap:
    """Cells with their labels and with two-dimensional maps of them.

    Attributes
    ----------
    obs
        Table of cells.
    maps
        Name of the map -> DataFrame `x`, `y` indexed by cell.
    sizes
        What was counted, e.g. genes and peaks.
    regulons
        Cells x regulons attention, or None.
    spatial
        Places of the cells in the tissue, `x`, `y` indexed by cell, or None.
    """

    obs: pd.DataFrame
    maps: dict[str, pd.DataFrame] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    regulons: pd.DataFrame | None = None
    spatial: pd.DataFrame | None = None


def concat(tables) -> pd.DataFrame | None:
    """Tables below each other; None if there are none."""
    tables = list(tables)
    return pd.concat(tables, ignore_index=True) if tables else None


def read_scores(path) -> pd.DataFrame:
    """A tidy table, its names as text."""
    return pd.read_csv(path, sep="\t", dtype=TEXT, keep_default_na=False, na_values=["", "nan", "NaN"])


def read_links(path) -> pd.DataFrame:
    """Links, which may be millions: only the columns that are drawn."""
    return pd.read_parquet(path, columns=["gene", "distance", "is_promoter", "score"])


def read_predictions(path) -> pd.DataFrame:
    """Labels predicted for held-out cells, without the probabilities."""
    return pd.read_parquet(path, columns=["cell", "seed", "truth", "predicted"])


def read_barcodes(path) -> pd.DataFrame:
    """Barcodes of one library, with its name."""
    cells = read_parquet(path)
    if "sample" not in cells:
        cells = cells.assign(sample=Path(path).name.removesuffix(".cells.parquet"))
    return cells


def find_benchmarks(folder) -> list[str]:
    """Measured jobs of a run, all but the report's own: it cannot know itself."""
    return [str(path) for path in sorted(Path(folder).rglob("*.tsv")) if path.stem != "write_report"]


def read_benchmark(path) -> pd.DataFrame:
    """Time and memory of one job: step, job, seconds, memory_mb."""
    parts = Path(path).with_suffix("").parts
    start = parts.index("benchmarks") + 1 if "benchmarks" in parts else len(parts) - 1
    table = pd.read_csv(path, sep="\t", na_values="-")
    memory = table["max_rss"].max() if "max_rss" in table else float("nan")
    job = {"step": parts[start], "job": "/".join(parts[start + 1 :])}
    return pd.DataFrame([job | {"seconds": table["s"].mean(), "memory_mb": memory}])


def read_multiome(path) -> CellMap:
    """Read labels and maps only: the matrices may not fit into memory and are not drawn."""
    import h5py
    from anndata.io import read_elem

    with h5py.File(path) as store:
        found = CellMap(obs=read_elem(store["obs"]))
        found.spatial = _coordinates(store["obsm"], "spatial", found.obs.index) if "obsm" in store else None
        for modality, name in (("rna", "RNA (PCA)"), ("atac", "ATAC (LSI)")):
            if modality not in store["mod"]:
                continue
            group = store["mod"][modality]
            found.sizes[modality] = len(read_elem(group["var"]))
            cells = read_elem(group["obs"]).index
            coordinates = _coordinates(group["obsm"], "X_umap", cells)
            if coordinates is not None:
                found.maps[name] = coordinates
            if found.spatial is None:
                found.spatial = _coordinates(group["obsm"], "spatial", cells)
    return found


def read_embedding(path) -> CellMap:
    """Map of the model, and how much each cell attends to each regulon."""
    import h5py
    from anndata.io import read_elem

    with h5py.File(path) as store:
        found = CellMap(obs=read_elem(store["obs"]))
        coordinates = _coordinates(store["obsm"], "X_umap", found.obs.index)
        if coordinates is not None:
            found.maps["Regulonformer"] = coordinates
        if "X_regulons" in store["obsm"] and "regulons" in store["uns"]:
            names = [str(name) for name in read_elem(store["uns"]["regulons"])]
            found.regulons = pd.DataFrame(store["obsm"]["X_regulons"][:], index=found.obs.index, columns=names)
    return found


def _coordinates(group, key, cells) -> pd.DataFrame | None:
    if key not in group:
        return None
    return pd.DataFrame(group[key][:, :2], index=cells, columns=["x", "y"])
