"""Tables of the report, as plain rows of text."""

import re
from dataclasses import dataclass, field

import pandas as pd

from regulonformer.report.comparison import (
    LOWER_IS_BETTER,
    is_ours,
    methods_in_order,
    metrics_in_order,
    pooled_scores,
)
from regulonformer.report.figures_drivers import classes_by_size, top_drivers
from regulonformer.report.figures_regulons import edge_table
from regulonformer.report.names import (
    METRICS,
    capital,
    duration,
    flatten,
    listed,
    method_name,
    number,
    percent,
    reason_name,
    score_name,
    slug,
    spoken,
    title,
)

# A number with its unit, interval or star; a dash stands for none.
NUMBER = re.compile(r"–|[-+]?[\d.,]+( (%|s|min|h|GB))?( \[.*\])?( ★)?")


@dataclass
class Table:
    """Rows of text under a heading, ready to draw.

    Attributes
    ----------
    name
        Anchor on the page and stem of the TSV.
    rows
        Cells as text; `strong` holds the positions of rows that stand out.
    source
        Result file behind the numbers.
    """

    name: str
    heading: str
    columns: list[str]
    rows: list[list[str]]
    caption: str
    source: str
    strong: set[int] = field(default_factory=set)
    kind: str = "table"

    @property
    def tsv(self) -> str:
        """The table as tab-separated text."""
        return "\n".join("\t".join(row) for row in [self.columns, *self.rows]) + "\n"

    @property
    def numeric(self) -> list[bool]:
        """Columns that hold nothing but numbers, which are set flush right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [bool(cells) and all(map(NUMBER.fullmatch, cells)) for cells in columns]


def library_table(qc: list[dict]) -> Table:
    """Barcodes in, kept and removed by reason, per library and in total."""
    reasons = sorted({reason for record in qc for reason in record.get("removed", {})})
    rows = [_library_row(record, reasons) for record in qc]
    if len(qc) > 1:
        total = {
            "sample": "all libraries",
            "cells_in": sum(record["cells_in"] for record in qc),
            "cells_kept": sum(record["cells_kept"] for record in qc),
            "removed": {reason: sum(record.get("removed", {}).get(reason, 0) for record in qc) for reason in reasons},
        }
        rows.append(_library_row(total, reasons))
    caption = (
        "Barcodes of each library before and after quality control. A barcode with two reasons is in both columns."
    )
    columns = ["Library", "Barcodes", "Kept", "Share kept", *(capital(reason_name(reason)) for reason in reasons)]
    strong = {len(rows) - 1} if len(qc) > 1 else set()
    return Table("libraries", "Barcodes per library", columns, rows, caption, "ingest/*.qc.json", strong)


def _library_row(record: dict, reasons: list[str]) -> list[str]:
    removed = record.get("removed", {})
    kept = [number(record["cells_in"]), number(record["cells_kept"]), percent(record["cells_kept"], record["cells_in"])]
    return [record["sample"], *kept, *(number(removed.get(reason, 0)) for reason in reasons)]


def threshold_table(qc: list[dict]) -> Table | None:
    """The cuts that were applied, per library."""
    metrics = list(dict.fromkeys(metric for record in qc for metric in record.get("thresholds", {})))
    if not metrics:
        return None
    rows = [[record["sample"], *(_range(record["thresholds"].get(metric)) for metric in metrics)] for record in qc]
    caption = (
        "Barcodes outside these limits were removed. Limits differ between libraries where they follow the "
        "library's own median."
    )
    return Table(
        "thresholds",
        "Limits applied",
        ["Library", *(METRICS.get(metric, title(metric)) for metric in metrics)],
        rows,
        caption,
        "ingest/*.qc.json",
    )


def _range(limits: dict | None) -> str:
    low, high = (limits or {}).get("low"), (limits or {}).get("high")
    if low is None and high is None:
        return "–"
    if low is None or high is None:
        return f"≤ {number(high)}" if low is None else f"≥ {number(low)}"
    return f"{number(low)} to {number(high)}"


def filter_table(name: str, heading: str, summary: dict, source: str) -> Table:
    """A summary of counts as two columns."""
    rows = [[title(key), number(value)] for key, value in flatten(summary).items() if value is not None]
    return Table(
        name, heading, ["What", "Value"], rows, "Counted by the step that did it; nothing is dropped silently.", source
    )


def findings_table(findings: list[dict]) -> Table:
    """Warnings and notes of input validation."""
    rows = [
        [capital(item.get("level", "note")), item.get("file", ""), item.get("message", ""), item.get("fix", "")]
        for item in findings
    ]
    caption = "What was noticed about the inputs before any compute. None of these stopped the run."
    return Table(
        "findings",
        "Notes on the inputs",
        ["Level", "Where", "What", "What to do"],
        rows,
        caption,
        "validate/inputs.json",
    )


def regulon_table(regulons: pd.DataFrame, tfs: list[str]) -> Table:
    """The strongest regulons: targets, CREs, sign and best targets."""
    edges, rows = edge_table(regulons), []
    for tf in tfs:
        mine = edges[edges["source"] == tf]
        cres = regulons.loc[regulons["source"] == tf, "cre"].fillna("") if "cre" in regulons else pd.Series([""])
        signed = [
            f"{int((mine['sign'] == sign).sum())} {word}"
            for sign, word in ((1, "activated"), (-1, "repressed"), (0, "unsigned"))
            if (mine["sign"] == sign).any()
        ]
        best = listed(mine["target"].head(8), limit=8)
        rows.append(
            [
                tf,
                number(len(mine)),
                number(int(cres[cres != ""].nunique())),
                ", ".join(signed),
                number(float(mine["score"].sum())),
                best,
            ]
        )
    caption = (
        "Regulons with the largest summed edge score. CREs are the distinct elements through which the TF reaches "
        "its targets."
    )
    columns = ["TF", "Targets", "CREs", "Direction", "Summed score", "Strongest targets"]
    return Table("top_regulons", "Strongest regulons", columns, rows, caption, "regulons/regulons.parquet")


def score_table(annotation: pd.DataFrame, dataset: str) -> Table:
    """Method x metric, pooled over folds, with intervals; the best of each column is starred."""
    scores = pooled_scores(annotation[annotation["dataset"] == dataset])
    metrics, methods = metrics_in_order(scores), methods_in_order(scores)
    cells = {(row.method, row.metric): row for row in scores.itertuples()}
    best = {}
    for metric in metrics:
        rows = scores[scores["metric"] == metric]
        best[metric] = rows["value"].min() if metric in LOWER_IS_BETTER else rows["value"].max()
    rows = [
        [method_name(method), *(_score(cells.get((method, metric)), best[metric]) for metric in metrics)]
        for method in methods
    ]
    strong = {position for position, method in enumerate(methods) if is_ours(method)}
    caption = (
        "All held-out cells together, with confidence intervals in brackets; ★ marks the best value of a column. "
        "Our model is in bold."
    )
    return Table(
        f"scores_{slug(dataset)}",
        "Scores on held-out cells",
        ["Method", *map(score_name, metrics)],
        rows,
        caption,
        "evaluate/annotation.tsv",
        strong,
    )


def _score(row, best: float) -> str:
    if row is None or pd.isna(row.value):
        return "–"
    star = " ★" if row.value == best else ""
    return (
        f"{row.value:.3f}{star}"
        if pd.isna(row.ci_low)
        else f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]{star}"
    )


def class_table(predictions: pd.DataFrame, task: str) -> Table:
    """Recall and precision of each class, rare classes last."""
    rows = []
    for name, mine in predictions.groupby("truth"):
        called = predictions[predictions["predicted"] == name]
        hits = int((mine["predicted"] == name).sum())
        wrong = mine.loc[mine["predicted"] != name, "predicted"].value_counts()
        mistaken = f"{wrong.index[0]} ({percent(wrong.iloc[0], len(mine))})" if len(wrong) else "–"
        precision = percent(hits, len(called)) if len(called) else "–"
        rows.append(
            (
                mine["cell"].nunique(),
                [str(name), number(int(mine["cell"].nunique())), percent(hits, len(mine)), precision, mistaken],
            )
        )
    rows = [row for _, row in sorted(rows, key=lambda item: (-item[0], item[1][0]))]
    caption = (
        "Share of each class that was found (recall), share of its predictions that were right (precision), and "
        "the most frequent mistake, over folds and seeds."
    )
    columns = ["Class", "Cells", "Recall", "Precision", "Most often mistaken for"]
    return Table(f"classes_{slug(task)}", "Class by class", columns, rows, caption, "finetune/*/predictions.parquet")


def driver_table(mean: pd.DataFrame, task: str, count: int) -> Table:
    """Top genes per class and modality in words."""
    rows = []
    for name in classes_by_size(mean):
        top = top_drivers(mean, name, count)
        if len(top):
            shares = top.clip(lower=0).sum()
            share = percent(shares.get("rna", 0.0), shares.sum())
            rows.append(
                [
                    name,
                    number(int(mean.loc[mean["class"] == name, "n_cells"].max())),
                    share,
                    listed(top.index, limit=count),
                ]
            )
    caption = (
        "Genes whose RNA and accessibility speak most for a class, strongest first, and the share of that which "
        "comes from RNA."
    )
    columns = ["Class", "Cells explained", "From RNA", "Genes"]
    return Table(
        f"driver_genes_{slug(task)}",
        "Drivers of each class",
        columns,
        rows,
        caption,
        f"explain/{task}/attribution.parquet",
    )


def cost_table(benchmarks: pd.DataFrame) -> Table:
    """Time and memory per step of the workflow, in the order of cost."""
    steps = benchmarks.groupby("step").agg(
        jobs=("job", "size"), seconds=("seconds", "sum"), longest=("seconds", "max"), memory=("memory_mb", "max")
    )
    steps = steps.sort_values("seconds", ascending=False)
    rows = [
        [spoken(step), number(int(row.jobs)), duration(row.seconds), duration(row.longest), _memory(row.memory)]
        for step, row in steps.iterrows()
    ]
    total = [
        [
            "all steps",
            number(int(steps["jobs"].sum())),
            duration(steps["seconds"].sum()),
            duration(steps["longest"].max()),
            _memory(steps["memory"].max()),
        ]
    ]
    caption = (
        "Wall time and peak memory as measured when each step last ran. Steps that run side by side overlap in "
        "time, so the whole run takes less than the sum."
    )
    columns = ["Step", "Jobs", "Time, all jobs", "Longest job", "Peak memory"]
    return Table("costs", "Time and memory", columns, rows + total, caption, "benchmarks/*.tsv", {len(rows)})


def _memory(megabytes: float) -> str:
    return "–" if pd.isna(megabytes) else f"{megabytes / 1024:.2f} GB"


def version_table(records: list[dict]) -> Table | None:
    """Versions of what computed the models."""
    versions = {}
    for record in records:
        versions |= {"Python": record["python"]} if "python" in record else {}
        versions |= record.get("packages", {})
    if not versions:
        return None
    rows = [[name, str(version)] for name, version in versions.items()]
    return Table("versions", "Versions", ["Software", "Version"], rows, "As recorded beside the models.", "run.json")


def completeness_table(record: dict, task: str) -> Table:
    """How well the contributions add up."""
    rows = [[title(key), number(value)] for key, value in flatten(record).items() if value is not None]
    caption = (
        "Contributions should add up to the change of the class score between the reference and the cell; the "
        "error is what is missing, so small is good."
    )
    return Table(
        f"completeness_{slug(task)}",
        f"Completeness: {spoken(task)}",
        ["What", "Value"],
        rows,
        caption,
        f"explain/{task}/completeness.json",
    )
