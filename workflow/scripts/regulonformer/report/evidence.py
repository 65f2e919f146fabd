"""What the report is written from: every result file of a run, read if it is there."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from regulonformer.io.store import read_json, read_parquet, read_tsv
from regulonformer.report.activity import Activity, open_activity

SINGLE = (
    "validation",
    "peaks_summary",
    "merge_summary",
    "multiome",
    "links",
    "link_summary",
    "regulons",
    "regulon_summary",
    "regulon_activity",
    "corpus_summary",
    "corpus_unmapped",
    "pretrain_metrics",
    "pretrain_run",
    "pretrain_config",
    "embedding",
    "pretraining",
    "ablation",
    "annotation",
    "grn",
    "grn_reliability",
)
LISTS = (
    "qc",
    "counts",
    "cells",
    "predictions",
    "finetune_runs",
    "task_records",
    "attribution",
    "completeness",
    "benchmarks",
)
INPUT_NAMES = SINGLE + LISTS


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
    """

    obs: pd.DataFrame
    maps: dict[str, pd.DataFrame] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    regulons: pd.DataFrame | None = None


@dataclass
class Evidence:
    """Results of one run; what the run did not make is None or empty. Fields are the names in `INPUT_NAMES`."""

    validation: dict | None
    peaks_summary: dict | None
    merge_summary: dict | None
    multiome: CellMap | None
    links: pd.DataFrame | None
    link_summary: dict | None
    regulons: pd.DataFrame | None
    regulon_summary: dict | None
    regulon_activity: Activity | None
    corpus_summary: dict | None
    corpus_unmapped: pd.DataFrame | None
    pretrain_metrics: pd.DataFrame | None
    pretrain_run: dict | None
    pretrain_config: dict | None
    embedding: CellMap | None
    pretraining: pd.DataFrame | None
    ablation: pd.DataFrame | None
    annotation: pd.DataFrame | None
    grn: pd.DataFrame | None
    grn_reliability: pd.DataFrame | None
    qc: list[dict]
    counts: list[dict]
    cells: pd.DataFrame | None
    predictions: dict[str, pd.DataFrame]
    finetune_runs: list[dict]
    task_records: dict[str, list[dict]]
    attribution: dict[str, pd.DataFrame]
    completeness: dict[str, dict]
    benchmarks: pd.DataFrame | None


def read_evidence(inputs: dict) -> Evidence:
    """Read the result files that exist.

    Parameters
    ----------
    inputs
        Input name -> path, list of paths, or None. Names are in `INPUT_NAMES`.

    Raises
    ------
    ValueError
        If a name is not known: a typing error in a rule must not silently lose a section.
    """
    if unknown := set(inputs) - set(INPUT_NAMES):
        raise ValueError(f"unknown report inputs: {sorted(unknown)}")
    paths = {name: _as_list(inputs.get(name)) for name in INPUT_NAMES}
    readers = dict.fromkeys(SINGLE, read_json) | {
        "multiome": _read_multiome,
        "embedding": _read_embedding,
        "links": _read_links,
        "regulons": read_parquet,
        "regulon_activity": open_activity,
        "corpus_unmapped": read_tsv,
        "pretrain_metrics": _read_tsv,
        "pretraining": _read_tsv,
        "ablation": _read_tsv,
        "annotation": _read_tsv,
        "grn": _read_tsv,
        "grn_reliability": _read_tsv,
    }
    single = {name: readers[name](paths[name][0]) if paths[name] else None for name in SINGLE}
    return Evidence(
        **single,
        qc=[read_json(path) for path in paths["qc"]],
        counts=[read_json(path) for path in paths["counts"]],
        cells=_concat(_read_cells(path) for path in paths["cells"]),
        predictions=_by_task(paths["predictions"], "finetune", read_parquet, _concat),
        finetune_runs=[read_json(path) for path in paths["finetune_runs"]],
        task_records=_by_task(paths["task_records"], "finetune", read_json, list),
        attribution=_by_task(paths["attribution"], "explain", read_parquet, _concat),
        completeness=_by_task(paths["completeness"], "explain", read_json, lambda items: items[0]),
        benchmarks=_concat(_read_benchmark(path) for path in paths["benchmarks"]),
    )


def _as_list(value) -> list[str]:
    if value is None:
        return []
    return [str(value)] if isinstance(value, (str, Path)) else [str(path) for path in value]


def _concat(tables) -> pd.DataFrame | None:
    tables = list(tables)
    return pd.concat(tables, ignore_index=True) if tables else None


def _read_tsv(path) -> pd.DataFrame:
    # Folds and seeds are names here: "pooled" stands beside 0, 1, 2.
    return pd.read_csv(path, sep="\t", dtype={"fold": str, "seed": str, "dataset": str, "method": str, "metric": str})


def _read_links(path) -> pd.DataFrame:
    # Millions of pairs: only the columns that are drawn.
    return pd.read_parquet(path, columns=["gene", "distance", "is_promoter", "score"])


def _by_task(paths, stage, read, combine) -> dict:
    """Group files by the task that their path names: .../{stage}/{task}/..."""
    groups = {}
    for path in paths:
        parts = Path(path).parts
        last = max((at for at, part in enumerate(parts[:-2]) if part == stage), default=None)
        task = parts[last + 1] if last is not None else Path(path).parent.name
        groups.setdefault(task, []).append(read(path))
    return {task: combine(items) for task, items in groups.items()}


def _read_cells(path) -> pd.DataFrame:
    cells = read_parquet(path)
    if "sample" not in cells:
        cells = cells.assign(sample=Path(path).name.removesuffix(".cells.parquet"))
    return cells


def find_benchmarks(folder) -> list[str]:
    """Measured jobs of a run, all but the report's own: it cannot know itself."""
    return [str(path) for path in sorted(Path(folder).rglob("*.tsv")) if path.stem != "write_report"]


def _read_benchmark(path) -> pd.DataFrame:
    parts = Path(path).with_suffix("").parts
    start = parts.index("benchmarks") + 1 if "benchmarks" in parts else len(parts) - 1
    table = pd.read_csv(path, sep="\t", na_values="-")
    memory = table["max_rss"].max() if "max_rss" in table else float("nan")
    return pd.DataFrame(
        {
            "step": [parts[start]],
            "job": ["/".join(parts[start + 1 :])],
            "seconds": table["s"].mean(),
            "memory_mb": memory,
        }
    )


def _coordinates(group, key, cells) -> pd.DataFrame | None:
    if key not in group:
        return None
    return pd.DataFrame(group[key][:, :2], index=cells, columns=["x", "y"])


def _read_multiome(path) -> CellMap:
    """Read labels and maps only: the matrices may not fit into memory and are not drawn."""
    import h5py
    from anndata.io import read_elem

    with h5py.File(path) as store:
        found = CellMap(obs=read_elem(store["obs"]))
        for modality, name in (("rna", "RNA (PCA)"), ("atac", "ATAC (LSI)")):
            if modality not in store["mod"]:
                continue
            group = store["mod"][modality]
            found.sizes[modality] = len(read_elem(group["var"]))
            coordinates = _coordinates(group["obsm"], "X_umap", read_elem(group["obs"]).index)
            if coordinates is not None:
                found.maps[name] = coordinates
    return found


def _read_embedding(path) -> CellMap:
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
