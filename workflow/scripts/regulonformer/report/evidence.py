"""What the report is written from: every result file of a run, read if it is there."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd

from regulonformer.io.store import read_json, read_parquet, read_tsv
from regulonformer.report.activity import Activity, open_activity
from regulonformer.report.readers import (
    CellMap,
    concat,
    read_barcodes,
    read_benchmark,
    read_embedding,
    read_links,
    read_multiome,
    read_predictions,
    read_scores,
)


def one(read):
    """A file that is there once, or not at all (None)."""
    return field(metadata={"read": lambda paths: read(paths[0]) if paths else None})


def several(read, combine=list):
    """Files of many libraries or jobs, read one by one and combined."""
    return field(metadata={"read": lambda paths: combine([read(path) for path in paths])})


def by_task(read, stage, combine=concat):
    """Files of a stage, grouped by the task that their path names: .../{stage}/{task}/..."""

    def read_all(paths):
        groups = {}
        for path in paths:
            parts = Path(path).parts
            last = max((at for at, part in enumerate(parts[:-2]) if part == stage), default=None)
            task = parts[last + 1] if last is not None else Path(path).parent.name
            groups.setdefault(task, []).append(read(path))
        return {task: combine(items) for task, items in groups.items()}

    return field(metadata={"read": read_all})


@dataclass
class Evidence:
    """Results of one run; what the run did not make is None or empty. Fields are the names of the report's inputs."""

    # Data
    validation: dict | None = one(read_json)
    qc: list[dict] = several(read_json)
    cells: pd.DataFrame | None = several(read_barcodes, concat)
    peaks_summary: dict | None = one(read_json)
    counts: list[dict] = several(read_json)
    merge_summary: dict | None = one(read_json)
    multiome: CellMap | None = one(read_multiome)
    # Regulons
    links: pd.DataFrame | None = one(read_links)
    link_summary: dict | None = one(read_json)
    regulons: pd.DataFrame | None = one(read_parquet)
    regulon_summary: dict | None = one(read_json)
    regulon_activity: Activity | None = one(open_activity)
    corpus_summary: dict | None = one(read_json)
    corpus_unmapped: pd.DataFrame | None = one(read_tsv)
    grn: pd.DataFrame | None = one(read_scores)
    grn_reliability: pd.DataFrame | None = one(read_scores)
    # Model
    pretrain_metrics: pd.DataFrame | None = one(read_scores)
    pretrain_run: dict | None = one(read_json)
    pretrain_config: dict | None = one(read_json)
    pretraining: pd.DataFrame | None = one(read_scores)
    ablation: pd.DataFrame | None = one(read_scores)
    recipes: pd.DataFrame | None = one(read_scores)
    genes: pd.DataFrame | None = one(read_scores)
    embedding: CellMap | None = one(read_embedding)
    embedding_scores: pd.DataFrame | None = one(read_scores)
    # Tasks
    predictions: dict[str, pd.DataFrame] = by_task(read_predictions, "finetune")
    finetune_runs: list[dict] = several(read_json)
    task_records: dict[str, list[dict]] = by_task(read_json, "finetune", list)
    transferred: dict[str, pd.DataFrame] = by_task(read_parquet, "finetune")
    transfer_summary: dict[str, dict] = by_task(read_json, "finetune", lambda items: items[0])
    annotation: pd.DataFrame | None = one(read_scores)
    differences: pd.DataFrame | None = one(read_scores)
    recall: pd.DataFrame | None = one(read_scores)
    reliability: pd.DataFrame | None = one(read_scores)
    confusion: dict | None = one(read_json)
    learning_curve: pd.DataFrame | None = one(read_scores)
    regression: pd.DataFrame | None = one(read_scores)
    translation: pd.DataFrame | None = one(read_scores)
    missing: pd.DataFrame | None = one(read_scores)
    # Explanation
    attribution: dict[str, pd.DataFrame] = by_task(read_parquet, "explain")
    completeness: dict[str, dict] = by_task(read_json, "explain", lambda items: items[0])
    drivers: dict[str, pd.DataFrame] = by_task(read_scores, "explain")
    driver_stability: dict[str, pd.DataFrame] = by_task(read_scores, "explain")
    driver_tfs: dict[str, pd.DataFrame] = by_task(read_scores, "explain")
    driver_agreement: dict[str, dict] = by_task(read_json, "explain", lambda items: items[0])
    regulon_influence: dict[str, pd.DataFrame] = by_task(read_scores, "explain")
    enrichment: dict[str, pd.DataFrame] = by_task(read_scores, "explain")
    driver_scores: pd.DataFrame | None = one(read_scores)
    perturbation: pd.DataFrame | None = one(read_scores)
    perturbed_tfs: pd.DataFrame | None = one(read_parquet)
    perturbed_targets: pd.DataFrame | None = one(read_parquet)
    variants: pd.DataFrame | None = one(read_parquet)
    # Cost
    benchmarks: pd.DataFrame | None = several(read_benchmark, concat)


INPUT_NAMES = tuple(name.name for name in fields(Evidence))


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
    return Evidence(**{item.name: item.metadata["read"](_as_list(inputs.get(item.name))) for item in fields(Evidence)})


def _as_list(value) -> list[str]:
    if value is None:
        return []
    return [str(value)] if isinstance(value, (str, Path)) else [str(path) for path in value]
